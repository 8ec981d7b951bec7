"""Products with weights in float32, by the library that is faster on this processor.

PyTorch multiplies float32 by MKL, which makes less of processors that are not Intel's: on an AMD
EPYC, oneDNN is 8 % faster where a pack meets a weight, and up to 25 % at the head. The sums are the
same up to their order. Which library it is follows from the processor alone, so that the same run
has the same bits every time.
"""

from functools import cache
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from expunge.machine import processor
from expunge.model.context import Context
from expunge.model.onednn import multiplies, multiply

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


class _Context(Context, Protocol):
    """What autograd keeps for the way back."""

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say which inputs are handed on as they are."""
        ...


class _Product(torch.autograd.Function):
    """dx = g W."""

    @staticmethod
    def forward(ctx: Context, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return multiply(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Context, *slopes: Tensor
    ) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return multiply(slopes[0], weight.T, None), None, None


class _Weighed(torch.autograd.Function):
    """dW = g' x, db = sum g; the value is nothing, in the shape of the product.

    A step of its own on the way back, so that autograd leaves it out where somebody looks for the
    slope of states alone.
    """

    @staticmethod
    def forward(ctx: _Context, rows: Tensor, weight: Tensor, _bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows)
        return rows.new_zeros(()).expand(len(rows), len(weight))

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: _Context, *slopes: Tensor
    ) -> tuple[None, Tensor | None, Tensor | None]:
        (rows,), (slope,) = ctx.saved_tensors, slopes
        _, weight, bias = ctx.needs_input_grad
        return None, slope.T @ rows if weight else None, slope.sum(0) if bias else None


class _Joined(torch.autograd.Function):
    """The product itself, with both ways back."""

    @staticmethod
    def forward(ctx: _Context, output: Tensor, _nothing: Tensor) -> Tensor:
        ctx.mark_dirty(output)
        return output

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        _ctx: _Context, *slopes: Tensor
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
