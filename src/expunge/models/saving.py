"""Saving: a loadable model folder; its files are moved into place once all are written.

Safetensors files written one tensor after the other.

`safetensors.torch.save` holds all tensors a second time while they are written, which for the
checkpoint of a large model may be more memory than training needs.

    8 bytes: length of the header | header: JSON, filled up with spaces | tensors, end to end
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from expunge.utils.file_names import CARD
from expunge.utils.io import NO_SPACE, atomic, disk_full, sync_folder, synced


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write configuration, safetensors weights and tokenizer into `folder`.

    Files of the same names are replaced, others are left alone. If writing fails, for example on a
    full disk, what was in the folder before is untouched.

    Raises:
        ResourceError: The disk is full.
    """
    staging = folder / ".staging"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        (staging / CARD).unlink(missing_ok=True)
        # Safetensors are written for their owner only; what the umask allows, the folder tells.
        mode = staging.stat().st_mode & 0o666
        for path in sorted(staging.iterdir()):
            path.chmod(mode)
            synced(path)
            path.replace(folder / path.name)
        sync_folder(folder)
    except Exception as error:
        if not _is_full(error):
            raise
        raise disk_full(folder) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _is_full(error: Exception) -> bool:
    """Tell whether the disk is full.

    Weights and tokenizers are not written by Python: the number of the system's error is in the
    text only.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in NO_SPACE
    found = re.search(r"os error (\d+)", str(error))
    return found is not None and int(found[1]) in NO_SPACE


_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write tensors to `path`, atomically; at most one is held a second time.

    Args:
        path: A safetensors file.
        tensors: By name, on any device.
        about: Text that is kept with them.

    Raises:
        ResourceError: The disk is full; `path` is untouched.
    """
    # Wide numbers first, so that every tensor begins at a multiple of the size of its numbers.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, object] = {"__metadata__": dict(about)}
    stop = 0
    for name, tensor in ordered:
        start, stop = stop, stop + tensor.numel() * tensor.element_size()
        shape, dtype = list(tensor.shape), _NAMES[tensor.dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for _, tensor in ordered:
            flat = tensor.detach().cpu().contiguous().flatten()
            file.write(flat.view(torch.uint8).numpy().data)
