"""The number format that a model computes in: as asked, or the faster of two that suffice."""

import time
from functools import cache
from typing import Literal

import torch

LEAST_WIDTH = 256
"""Narrower models spend their time outside of matrix products."""
LEAST_GAIN = 1.5
"""How much faster 16-bit products must be to be worth their rounding."""
_ROWS, _WIDTH = 512, 768


def choose_dtype(
    precision: Literal["auto", "fp32", "bf16"], device: torch.device, *, width: int
) -> torch.dtype:
    """Return the number format of the weights.

    Args:
        precision: What was asked for. `auto` is bf16 on CUDA cards that have it, and on processors
            that multiply it clearly faster than float32 (measured, a tenth of a second); else
            float32.
        device: Where the model computes.
        width: Hidden size of the model.
    """
    if precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        fast = device.type == "cpu" and width >= LEAST_WIDTH and _gain_of_bf16() >= LEAST_GAIN
    return torch.bfloat16 if fast else torch.float32


@cache
def _gain_of_bf16() -> float:
    """Return how many times as fast this processor multiplies matrices in bf16 as in float32."""
    return _seconds(torch.float32) / _seconds(torch.bfloat16)


def _seconds(dtype: torch.dtype) -> float:
    rows = torch.ones(_ROWS, _WIDTH, dtype=dtype)
    matrix = torch.ones(_WIDTH, _WIDTH, dtype=dtype)
    torch.mm(rows, matrix)  # the first product of a format sets the libraries up
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        torch.mm(rows, matrix)
        best = min(best, time.perf_counter() - started)
    return best
