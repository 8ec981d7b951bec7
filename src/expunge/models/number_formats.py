"""Number formats: which one a model computes in, which it is stored in, and others it may have.

Which one it computes in is what was asked for, or what suits the device. Nothing is timed for it:
the weights' digest, and so the id of a run, follow from the format, and must not change with what
else a machine is doing.

Weights stored in float32 can carry what their bf16 rounding does not, and the other way round. So a
model is judged in the format of its files and tested in every other one that it may be loaded in.

Weights are also rounded to int8 or int4 and back, as a test of depth. Forgetting that is smaller
than a quantisation step is undone by quantising (arXiv:2410.16454). Round-to-nearest, symmetric, no
calibration data: what the simplest deployment tool would do.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D
from transformers.utils.hub import cached_file

from expunge.models.architecture import stacks
from expunge.models.loading import Source, load_config, local_base
from expunge.models.reference import split_reference
from expunge.models.transformer import Network
from expunge.models.weight_files import read_header
from expunge.utils.io import read_json
from expunge.utils.system import processor

FORMATS: Mapping[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
"""Formats in which tools load a model without quantising it, by their names in evidence."""

_STORED: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
}


LEAST_WIDTH = 256
"""Narrower models spend their time outside of matrix products."""


def in_precision(
    source: Source, precision: Literal["auto", "fp32", "bf16"], reference: str
) -> Source:
    """Return a source in the number format that suits a model and the source's device.

    Args:
        source: How models are loaded.
        precision: What was asked for, see `choose_dtype`.
        reference: Which model.

    Raises:
        InputError: The model is not there.
    """
    width = load_config(reference, source).get_text_config().hidden_size
    return replace(source, dtype=choose_dtype(precision, source.device, width=width))


def choose_dtype(
    precision: Literal["auto", "fp32", "bf16"], device: torch.device, *, width: int
) -> torch.dtype:
    """Return the number format of the weights.

    Args:
        precision: What was asked for. `auto` is bf16 on CUDA cards that multiply it (Ampere and
            later; earlier ones only emulate it), and on processors that multiply it faster than
            float32: those with matrix units for it (AMX), and AMD's with vector instructions for it
            (avx512_bf16; an EPYC took half of the time). Intel's vector instructions are slower
            than float32 (a Xeon took twice the time). Else float32.
        device: Where the model computes.
        width: Hidden size of the model.
    """
    if precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and width >= LEAST_WIDTH and _is_made_for_bf16()
    return torch.bfloat16 if fast else torch.float32


def stored_dtype(reference: str, source: Source) -> torch.dtype:
    """Return the narrowest format that holds every weight of a model's files exactly.

    It is read off the headers of the safetensors files, not off the configuration, which may say
    something else. Beside an adapter its base counts, too: what is merged needs both. Where there
    are no such files it is float32, and loading says what is missing.

    Args:
        reference: As for `expunge.models.loading.load`.
        source: Permissions.

    Raises:
        InputError: As `split_reference` and `local_base`.
    """
    base, adapter = split_reference(reference)
    if adapter is not None:
        below = stored_dtype(base, source)
        return _holding([below, *_dtypes(adapter.glob("*.safetensors"))])
    return _holding(_dtypes(_weight_files(base, source)))


def in_stored_format(source: Source, reference: str) -> Source:
    """Return a source in which no weight of a model is rounded.

    A format of more bits than the files have stays: it changes no weight.
    """
    return replace(source, dtype=_holding([source.dtype, stored_dtype(reference, source)]))


@contextmanager
def held_in(network: Network, form: str) -> Generator[None]:
    """Hold a model in another number format for a while, then restore its weights exactly.

    It computes in that format, too; in float32 where the format is float16 and the processor would
    only emulate it, for its rounding of the weights is what counts.

    Args:
        network: The model; afterwards its weights are the very tensors that they were.
        form: A name in `FORMATS`.
    """
    dtype = FORMATS[form]
    emulated = form == "fp16" and network.device.type == "cpu"
    kept = [(p, p.data) for p in network.model.parameters() if p.is_floating_point()]
    try:
        for parameter, data in kept:
            held = data.to(dtype)
            parameter.data = held.float() if emulated else held
        yield
    finally:
        for parameter, data in kept:
            parameter.data = data


def _holding(dtypes: Iterable[torch.dtype]) -> torch.dtype:
    """Return the narrowest format that holds all of some; float16 and bf16 need float32."""
    found = list(dtypes)
    widest = found[0] if found else torch.float32
    for dtype in found[1:]:
        widest = torch.promote_types(widest, dtype)
    return widest


def _dtypes(files: Iterable[Path]) -> set[torch.dtype]:
    """Return the formats of the floating-point tensors in safetensors files, from their headers."""
    found: set[torch.dtype] = set()
    for path in files:
        named = {row["dtype"] for row in read_header(path).values()}
        found |= {_STORED[each] for each in named if each in _STORED}
    return found


def _weight_files(base: str, source: Source) -> list[Path]:
    name, revision = local_base(base, source)
    if Path(name).is_dir():
        return sorted(Path(name).glob("*.safetensors"))

    def there(file: str) -> Path | None:
        try:
            path = cached_file(
                name,
                file,
                revision=revision,
                local_files_only=source.offline,
                _raise_exceptions_for_missing_entries=False,
            )
        except OSError:
            return None
        return None if path is None else Path(path)

    index = there("model.safetensors.index.json")
    shards = (
        {"model.safetensors"} if index is None else set(read_json(index)["weight_map"].values())
    )
    return [path for shard in sorted(shards) if (path := there(shard)) is not None]


def _is_made_for_bf16() -> bool:
    units = torch.cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage]
    vectors = torch.cpu._is_avx512_bf16_supported()  # pyright: ignore[reportPrivateUsage]
    return units or (vectors and "AMD" in processor())


def quantise_dequantise(weight: Tensor, *, bits: int, group: int | None) -> Tensor:
    """Round a weight matrix to `bits` signed bits and back.

    q = clamp(round(w / s), -2^(b-1), 2^(b-1) - 1), s = max|w| / (2^(b-1) - 1) for each output row
    (`group` None) or for each run of `group` inputs of a row.

    Args:
        weight: [out, in].
        bits: Width of the code, 2 to 16.
        group: Inputs that share a scale; a last, shorter group is allowed.

    Returns:
        The rounded weight in the format of `weight`.
    """
    top = 2 ** (bits - 1) - 1  # codes lie in -top - 1 .. top
    wide = weight.float()  # [out, in]
    size = wide.shape[1] if group is None else group
    blocks = []
    for block in wide.split(size, dim=1):
        # [out, 1]; the floor keeps a row of zeros from dividing by zero.
        step = block.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        step = step / top
        blocks.append((block / step).round().clamp(-top - 1, top) * step)
    return torch.cat(blocks, dim=1).to(weight.dtype)


@contextmanager
def rewritten(network: Network, change: Callable[[Tensor], Tensor]) -> Generator[None]:
    """Hold the linear layers of the decoder at changed weights for a while, then restore them.

    Experts that lie in one tensor, [experts, out, in], are changed one by one.

    Args:
        network: The model; afterwards its weights are exactly what they were.
        change: Maps a weight matrix [out, in] to another of its shape and format.
    """
    kept: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for module in network.layers.modules():
                if isinstance(module, nn.Linear | Conv1D):
                    weight = module.weight
                    kept.append((weight, weight.detach().clone()))
                    # Conv1D holds [in, out].
                    changed = change(weight.T if isinstance(module, Conv1D) else weight)
                    weight.copy_(changed.T if isinstance(module, Conv1D) else changed)
                for stack in stacks(module):
                    kept.append((stack, stack.detach().clone()))
                    for matrix in stack:
                        matrix.copy_(change(matrix))
        yield
    finally:
        with torch.no_grad():
            for weight, original in kept:
                weight.copy_(original)


@contextmanager
def quantised(network: Network, *, bits: int) -> Generator[None]:
    """Hold the linear layers of the decoder at `bits` bits for a while, then restore them exactly.

    int8 shares a scale per output row, int4 per 128 inputs. Embeddings and head stay as they are,
    as in common deployments.
    """
    group = 128 if bits == 4 else None
    with rewritten(network, partial(quantise_dequantise, bits=bits, group=group)):
        yield
