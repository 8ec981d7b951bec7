"""The number format that a model computes in: as requested, or what suits the device.

Nothing is timed for it: the weights' digest, and so the id of a run, follow from the format, and
must not change with what else a machine is doing.
"""

from dataclasses import replace
from typing import Literal

import torch

from expunge.models.loading import Source, load_config
from expunge.utils.system import processor

LEAST_WIDTH = 256
"""Narrower models spend their time outside of matrix products."""


def in_precision(
    source: Source, precision: Literal["auto", "fp32", "bf16"], reference: str
) -> Source:
    """Return a source in the number format that suits a model and the source's device.

    Args:
        source: How models are loaded.
        precision: The requested format, see `choose_dtype`.
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
        precision: The requested format. `auto` is bf16 on CUDA cards that multiply it (Ampere and
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


def _is_made_for_bf16() -> bool:
    units = torch.cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage]
    vectors = torch.cpu._is_avx512_bf16_supported()  # pyright: ignore[reportPrivateUsage]
    return units or (vectors and "AMD" in processor())
