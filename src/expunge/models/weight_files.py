"""Weights as they lie in safetensors files, without torch: their headers, and their digest.

Importing torch and loading a model takes seconds. Whoever only asks whether the weights are the
audited ones can hash the stored bytes: the same bytes under the same names give the same digest.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expunge.models.reference import unreadable
from expunge.utils.file_names import CONFIG
from expunge.utils.io import read_json

_LONGEST_HEADER = 100_000_000
"""Bytes; the library of safetensors reads no longer one."""
_FILE = "model.safetensors"
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_NAMES = {"F32": "torch.float32", "BF16": "torch.bfloat16", "F16": "torch.float16"}
_KINDS = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Dense architectures whose tensors have the same names and shapes in files and in memory."""
_OTHERWISE = ("quantization_config", "auto_map", "_implementation")
"""Ends of keys by which a configuration chooses code, or how weights are read."""
_BLOCK = 1 << 20


def read_header(path: Path) -> dict[str, dict[str, Any]]:
    """Return the header of a safetensors file: format, shape and offsets of each tensor by name.

    Raises:
        InputError: `unreadable-model`: the header is not that of a safetensors file.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, _LONGEST_HEADER)))
        rows = {name: row for name, row in header.items() if name != "__metadata__"}
        if not all(isinstance(row["dtype"], str) for row in rows.values()):
            raise ValueError("a format is no text")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise unreadable(path, "its header is not that of a safetensors file") from error
    return rows


def stored_digest(folder: Path, precision: str) -> str | None:
    """Return the digest that the weights of a folder have once loaded, from their file alone.

    It equals `expunge.models.loading.weights_digest` of the loaded model. None says that only
    loading can tell: several files, an architecture that is not known here, weights of another
    format, or a configuration that does not describe the shapes of these weights.

    Args:
        folder: A model folder that is no adapter and no guard.
        precision: Number format of the loaded model by its name, such as `bfloat16`.

    Raises:
        InputError: As `read_header`.
        OSError: A file cannot be read.
    """
    path = folder / _FILE
    if [each.name for each in folder.glob("*.safetensors*")] != [_FILE]:
        return None
    rows = read_header(path)
    config = read_json(folder / CONFIG)
    formats = {_NAMES.get(row["dtype"]) for row in rows.values()}
    if formats != {f"torch.{precision}"} or not _describes(config, rows):
        return None
    if config.get("tie_word_embeddings") and _HEAD not in rows:
        rows[_HEAD] = rows[_EMBEDDING]
    digest = hashlib.sha256()
    with path.open("rb") as file:
        (start,) = struct.unpack("<Q", file.read(8))
        for name in sorted(rows):
            shape, (begin, end) = tuple(rows[name]["shape"]), rows[name]["data_offsets"]
            digest.update(f"{name} {shape} torch.{precision}\n".encode())
            file.seek(8 + start + begin)
            for at in range(begin, end, _BLOCK):
                digest.update(file.read(min(_BLOCK, end - at)))
    return digest.hexdigest()


def _describes(config: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether a configuration is of a known kind and has the shapes of these tensors."""
    if any(key.endswith(_OTHERWISE) for key in config) or config.get("model_type") not in _KINDS:
        return False
    try:
        width, heads = config["hidden_size"], config["num_attention_heads"]
        head = config.get("head_dim") or width // heads
        keys, inner = config["num_key_value_heads"] * head, config["intermediate_size"]
        per_block = {
            "self_attn.q_proj": [heads * head, width],
            "self_attn.k_proj": [keys, width],
            "self_attn.v_proj": [keys, width],
            "self_attn.o_proj": [width, heads * head],
            "mlp.gate_proj": [inner, width],
            "mlp.up_proj": [inner, width],
            "mlp.down_proj": [width, inner],
        }
        blocks = range(config["num_hidden_layers"])
        vocabulary = config["vocab_size"]
    except (KeyError, TypeError, ZeroDivisionError):
        return False
    if len(blocks) > len(rows):
        return False
    shapes = {_EMBEDDING: [vocabulary, width], "model.norm.weight": [width]}
    shapes |= {
        f"model.layers.{i}.{name}.weight": shape
        for i in blocks
        for name, shape in per_block.items()
    }
    deepest = f"model.layers.{len(blocks)}."
    fits = all(rows.get(name, {}).get("shape") == shape for name, shape in shapes.items())
    return fits and not any(name.startswith(deepest) for name in rows)
