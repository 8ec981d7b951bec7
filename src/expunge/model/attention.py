"""Causal attention over short rows, with a way back made of matrix products.

    S = scale Q K'     P = softmax(S, causal)     O = P V
    dV = P' dO         dP = dO V'        dS = P * (dP - rowsum(dO * O))
    dQ = scale dS K    dK = scale dS' Q

Forward, this is PyTorch's own fused attention. Its way back on a processor in 16 bits does not use
the matrix units: for records of a hundred tokens it takes a third of a training step. Rows this
short can hold P whole, and then the way back is five products. [B, heads, L, d] throughout.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

LONGEST = 384
"""Beyond it the L x L matrices cost more than they save."""


def is_short(query: Tensor) -> bool:
    """Tell whether the way back of this module is the faster one."""
    narrow = torch.finfo(query.dtype).bits < 32
    return query.device.type == "cpu" and narrow and query.shape[-2] <= LONGEST


def short_attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attend causally.

    Args:
        query: [B, heads, L, d].
        key: As `query`.
        value: As `query`.
        scale: Factor of the scores.

    Returns:
        [B, heads, L, d].
    """
    return _Short.apply(query, key, value, scale)  # type: ignore[return-value]


class _Context(Protocol):
    """What autograd keeps for the way back."""

    saved_tensors: tuple[Tensor, ...]
    scale: float

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class _Short(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Context, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        found = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scale
        )
        ctx.save_for_backward(query, key, value, found)
        ctx.scale = scale
        return found

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: _Context, *slopes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, found = ctx.saved_tensors
        (slope,) = slopes
        length = query.shape[-2]
        later = torch.full((length, length), -torch.inf, dtype=query.dtype).triu_(1)
        scores = (ctx.scale * query) @ key.transpose(-1, -2)
        weights = scores.add_(later).softmax(-1)
        change = slope @ value.transpose(-1, -2)
        change.sub_((slope * found).sum(-1, keepdim=True)).mul_(weights).mul_(ctx.scale)
        return (
            change @ key,
            change.transpose(-1, -2) @ query,
            weights.transpose(-1, -2) @ slope,
            None,
        )
