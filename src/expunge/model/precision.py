"""The number format that a model computes in: as asked, or what suits the device.

Nothing is timed for it: the weights' digest, and so the id of a run, follow from the format, and
must not change with what else a machine is doing.
"""

from typing import Literal

import torch

LEAST_WIDTH = 256
"""Narrower models spend their time outside of matrix products."""


def choose_dtype(
    precision: Literal["auto", "fp32", "bf16"], device: torch.device, *, width: int
) -> torch.dtype:
    """Return the number format of the weights.

    Args:
        precision: What was asked for. `auto` is bf16 on CUDA cards that have it, and on processors
            with matrix units for it (AMX), which multiply it several times as fast as float32; else
            float32. Vector instructions for bf16 alone (avx512_bf16) are not enough: a Xeon that
            has only these takes twice as long as in float32.
        device: Where the model computes.
        width: Hidden size of the model.
    """
    if precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        fast = device.type == "cpu" and width >= LEAST_WIDTH and _has_matrix_units()
    return torch.bfloat16 if fast else torch.float32


def _has_matrix_units() -> bool:
    return torch.cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage]
