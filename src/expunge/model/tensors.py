"""Safetensors files written one tensor after the other.

`safetensors.torch.save` holds all tensors a second time while they are written, which for the
checkpoint of a large model may be more memory than training needs.

    8 bytes: length of the header | header: JSON, filled up with spaces | tensors, end to end
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from expunge.files import atomic

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
