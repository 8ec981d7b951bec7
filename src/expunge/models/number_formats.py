"""Number formats: the one that a model is stored in, and the model as other formats would hold it.

Weights stored in float32 can carry what their bf16 rounding does not, and the other way round. So a
model is judged in the format of its files and tested in every other one that it may be loaded in.
"""

import json
import struct
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from transformers.utils.hub import cached_file

from expunge.models.loading import Source, local_base
from expunge.models.reference import split_reference
from expunge.models.transformer import Network
from expunge.utils.io import read_json

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


def format_name(dtype: torch.dtype) -> str:
    """Return the name of a number format in evidence; `fp64` where it is none of `FORMATS`."""
    return next((name for name, each in FORMATS.items() if each == dtype), "fp64")


def stored_dtype(reference: str, source: Source) -> torch.dtype:
    """Return the narrowest format that holds every weight of a model's files exactly.

    It is read off the headers of the safetensors files, not off the configuration, which may say
    something else. Beside an adapter its base counts, too: what is merged needs both. Where there
    are no such files it is float32, and loading says what is missing.

    Args:
        reference: As for `expunge.models.loading.load`.
        source: Permissions.

    Raises:
        InputError: As `split_reference`.
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
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        named = {row["dtype"] for name, row in header.items() if name != "__metadata__"}
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
