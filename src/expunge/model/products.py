"""Products with frozen weights in float32, by the library that is faster on this processor.

PyTorch multiplies float32 by MKL, which makes less of processors that are not Intel's: on an AMD
EPYC, oneDNN is 8 % faster where a pack meets a weight, and up to 25 % at the head. The sums are the
same up to their order. Which library it is follows from the processor alone, so that the same run
has the same bits every time.
"""

from functools import cache

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
    """Return x W' + b, [..., fan_in] and [fan_out, fan_in] -> [..., fan_out].

    Where weight or bias train it is PyTorch's own: that one knows on the way back whether somebody
    who looks for the slope of states alone needs theirs.
    """
    trains = weight.requires_grad or (bias is not None and bias.requires_grad)
    if (trains and torch.is_grad_enabled()) or not _suits(inputs, weight):
        return functional.linear(inputs, weight, bias)
    if inputs.requires_grad and torch.is_grad_enabled():
        return _Product.apply(inputs, weight, bias)  # type: ignore[return-value]
    return multiply(inputs, weight, bias)


class _Product(torch.autograd.Function):
    """dx = g W."""

    @staticmethod
    def forward(ctx: Context, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return multiply(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Context, *slopes: Tensor
    ) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return multiply(slopes[0], weight.T, None), None, None


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
