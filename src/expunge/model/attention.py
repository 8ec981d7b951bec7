"""Causal attention over short rows, as matrix products of 16-bit numbers.

    S = scale Q K'     P = softmax(S, causal)     O = P V
    dV = P' dO         dP = dO V'        dS = P * (dP - rowsum(dO * O))
    dQ = scale dS K    dK = scale dS' Q

PyTorch's own fused attention makes little use of a processor's units for products of 16-bit
numbers. Rows this short can hold P whole, and then both ways are a few products: for records of a
hundred tokens half of the time there, two thirds there and back. The heads of a query that share a
key are laid one below the other, so that keys are not repeated, and the products themselves add up
the slopes of what is shared. P is computed again on the way back, not kept.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from expunge.model.context import Context

LONGEST = 512
"""Beyond it the matrices of every pair of tokens take more memory than they save time."""


def is_short(query: Tensor) -> bool:
    """Tell whether the attention of this module is the faster one."""
    narrow = torch.finfo(query.dtype).bits < 32
    return query.device.type == "cpu" and narrow and query.shape[-2] <= LONGEST


def short_attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attend causally.

    Args:
        query: [B, heads, L, d].
        key: [B, groups, L, d]; heads are a multiple of groups, those of a group come together.
        value: [B, groups, L, d_v].
        scale: Factor of the scores.

    Returns:
        [B, heads, L, d_v].
    """
    return _Short.apply(query, key, value, scale)  # type: ignore[return-value]


class _Context(Context, Protocol):
    """What autograd keeps for the way back."""

    scale: float
    groups: int


class _Short(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Context, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        queries, keys, values = (_below(tensor, key.shape[1]) for tensor in (query, key, value))
        found = _weights(queries, keys, scale) @ values
        ctx.save_for_backward(queries, keys, values, found)
        ctx.scale, ctx.groups = scale, key.shape[1]
        return found.view(*query.shape[:-1], value.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: _Context, *slopes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        queries, keys, values, found = ctx.saved_tensors
        slope = _below(slopes[0], ctx.groups)
        weights = _weights(queries, keys, ctx.scale)
        change = slope @ values.transpose(1, 2)
        change.sub_((slope * found).sum(-1, keepdim=True)).mul_(weights)
        count, _, length, _ = slopes[0].shape
        ways = (
            (change @ keys).mul_(ctx.scale),
            (change.transpose(1, 2) @ queries).mul_(ctx.scale),
            weights.transpose(1, 2) @ slope,
        )
        # [B groups, heads L, d] -> [B, all heads, L, d]
        query, key, value = (way.view(count, -1, length, way.shape[-1]) for way in ways)
        return query, key, value, None


def _below(heads: Tensor, groups: int) -> Tensor:
    """Lay the heads of a group one below the other; [B, heads, L, d] -> [B groups, heads L, d]."""
    return heads.reshape(heads.shape[0] * groups, -1, heads.shape[-1])


def _weights(queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    """Return P, [B groups, heads L, L], the heads of a group one below the other."""
    length = keys.shape[1]
    later = torch.full((length, length), -torch.inf, dtype=keys.dtype).triu_(1)
    later = later.repeat(queries.shape[1] // length, 1)
    return torch.baddbmm(later, queries, keys.transpose(1, 2), alpha=scale).softmax(-1)
