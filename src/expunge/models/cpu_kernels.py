"""Causal attention over short rows, as matrix products of 16-bit numbers.

    S = scale Q K'     P = softmax(S, causal)     O = P V
    dV = P' dO         dP = dO V'        dS = P * (dP - rowsum(dO * O))
    dQ = scale dS K    dK = scale dS' Q

PyTorch's own fused attention makes little use of a processor's units for products of 16-bit
numbers. Rows this short can hold P whole, and then both ways are a few products: for records of a
hundred tokens half of the time there, two thirds there and back. The heads of a query that share a
key are laid one below the other, so that keys are not repeated, and the products themselves add up
the slopes of what is shared. P is computed again on the way back, not kept.

What autograd keeps between the two ways through an operation of our own.

oneDNN, as PyTorch brings it: products with weights as they lie, or in its own order.

Products with weights in float32, by the library that is faster on this processor.

PyTorch multiplies float32 by MKL, which makes less of processors that are not Intel's: on an AMD
EPYC, oneDNN is 8 % faster where a pack meets a weight, and up to 25 % at the head. The sums are the
same up to their order. Which library it is follows from the processor alone, so that the same run
has the same bits every time.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.flop_counter import flop_registry, register_flop_formula

from expunge.utils.system import processor


class AutogradContext(Protocol):
    """What every such operation keeps; operations that keep more extend it."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep tensors for the way back."""
        ...


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


class _AttentionContext(AutogradContext, Protocol):
    """What autograd keeps for the way back."""

    scale: float
    groups: int


class _Short(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _AttentionContext, query: Tensor, key: Tensor, value: Tensor, scale: float
    ) -> Tensor:
        queries, keys, values = (_below(tensor, key.shape[1]) for tensor in (query, key, value))
        found = _weights(queries, keys, scale) @ values
        ctx.save_for_backward(queries, keys, values, found)
        ctx.scale, ctx.groups = scale, key.shape[1]
        return found.view(*query.shape[:-1], value.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: _AttentionContext, *slopes: Tensor
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


_ROWS = 32
"""Rows of the product that the order is made for; it suits others as well."""


def multiply(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x W' + b, [..., fan_in] and [fan_out, fan_in] -> [..., fan_out], without gradient."""
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")


def reorder(weight: Tensor) -> Tensor:
    """Return a copy of a weight in the order in which products read it; for `multiply` alone."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _ROWS)


@cache
def multiplies(dtype: torch.dtype) -> bool:
    """Tell whether this PyTorch, on this processor, has both for numbers of this format."""
    if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():
        return False
    rows = torch.linspace(-1, 1, 6, dtype=torch.float32).reshape(2, 3).to(dtype)
    weight = torch.linspace(1, -2, 12, dtype=torch.float32).reshape(4, 3).to(dtype)
    try:
        found = [multiply(rows, each, None) for each in (weight, reorder(weight))]
    except (AttributeError, RuntimeError, TypeError):
        return False
    plain = functional.linear(rows, weight)
    return all(torch.allclose(each, plain, rtol=1e-2, atol=1e-2) for each in found)


def _operations(rows: Sequence[int], weight: Sequence[int], *_: object, **__: object) -> int:
    """Count the operations of a product, as PyTorch counts those of its own."""
    return 2 * math.prod(rows) * weight[0]


if torch.backends.mkldnn.is_available():
    _product = torch.ops.mkldnn._linear_pointwise
    if _product not in flop_registry:
        register_flop_formula(_product)(_operations)


SMALLEST = 2**16
"""Fewest numbers of a weight that is worth a kernel made for each number of rows."""


class PlainLinear(nn.Linear):
    """A linear layer that multiplies by `product`."""

    def forward(self, inputs: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Apply the layer, [..., fan_in] -> [..., fan_out]."""
        return product(inputs, self.weight, self.bias)


def choose_products(model: nn.Module) -> None:
    """Let the linear layers of a model multiply by `product`, where that makes a difference.

    A layer becomes one of another class; its weights, its name and what it computes stay.
    """
    if _prefers_onednn():
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = PlainLinear


def product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W' + b, [..., fan_in] and [fan_out, fan_in] -> [..., fan_out]."""
    if not _suits(inputs, weight):
        return functional.linear(inputs, weight, bias)
    rows = inputs.reshape(-1, inputs.shape[-1])
    return _multiplied(rows, weight, bias).view(*inputs.shape[:-1], len(weight))


def _multiplied(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    frozen = weight.detach(), None if bias is None else bias.detach()
    if not torch.is_grad_enabled():
        return multiply(rows, *frozen)
    if rows.requires_grad:
        output = cast(Tensor, _Product.apply(rows, *frozen))
    else:
        output = multiply(rows, *frozen)
    if not weight.requires_grad and (bias is None or not bias.requires_grad):
        return output
    return cast(Tensor, _Joined.apply(output, _Weighed.apply(rows.detach(), weight, bias)))


class _ProductContext(AutogradContext, Protocol):
    """What autograd keeps for the way back."""

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say which inputs are handed on as they are."""
        ...


class _Product(torch.autograd.Function):
    """dx = g W."""

    @staticmethod
    def forward(ctx: AutogradContext, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return multiply(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: AutogradContext, *slopes: Tensor
    ) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return multiply(slopes[0], weight.T, None), None, None


class _Weighed(torch.autograd.Function):
    """dW = g' x, db = sum g; the value is nothing, in the shape of the product.

    A step of its own on the way back, so that autograd skips it where only the gradient of states
    is needed.
    """

    @staticmethod
    def forward(ctx: _ProductContext, rows: Tensor, weight: Tensor, _bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows)
        return rows.new_zeros(()).expand(len(rows), len(weight))

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: _ProductContext, *slopes: Tensor
    ) -> tuple[None, Tensor | None, Tensor | None]:
        (rows,), (slope,) = ctx.saved_tensors, slopes
        _, weight, bias = ctx.needs_input_grad
        return None, slope.T @ rows if weight else None, slope.sum(0) if bias else None


class _Joined(torch.autograd.Function):
    """The product itself, with both ways back."""

    @staticmethod
    def forward(ctx: _ProductContext, output: Tensor, _nothing: Tensor) -> Tensor:
        ctx.mark_dirty(output)
        return output

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        _ctx: _ProductContext, *slopes: Tensor
    ) -> tuple[Tensor, Tensor]:
        return slopes[0], slopes[0]


def _suits(inputs: Tensor, weight: Tensor) -> bool:
    return (
        weight.dtype is torch.float32 is inputs.dtype
        and weight.device.type == "cpu" == inputs.device.type
        and type(weight) in (nn.Parameter, Tensor)  # quantised and spread ones are of their own
        and type(inputs) is Tensor
        and weight.numel() >= SMALLEST
        and _prefers_onednn()
    )


@cache
def _prefers_onednn() -> bool:
    """Tell whether oneDNN is the faster one: where the processor is not the one MKL is made for."""
    return processor().startswith("AMD") and multiplies(torch.float32)
