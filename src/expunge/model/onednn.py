"""oneDNN, as PyTorch brings it: products with weights as they lie, or in its own order."""

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import flop_registry, register_flop_formula

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
