"""Arithmetic on gradients: dictionaries of tensors taken as one long vector."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from expunge.wrappers.protocols import Gradient


def dot(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Tensor:
    """Return the inner product, a float64 scalar; a name that one of them lacks counts as zero."""
    shared = [name for name in first if name in second]
    products = [_whole((_wide(first[n]) * _wide(second[n])).sum()) for n in shared]
    if not products:
        return torch.zeros((), dtype=torch.float64)
    return torch.stack(products).cpu().double().sum()  # one wait for the device, not one a tensor


def norm(gradient: Mapping[str, Tensor]) -> Tensor:
    """Return the Euclidean length over all tensors, a float64 scalar."""
    return dot(gradient, gradient).sqrt()


def add(first: Mapping[str, Tensor], second: Mapping[str, Tensor], scale: float = 1.0) -> Gradient:
    """Return first + scale * second as new tensors; a missing name counts as zero."""
    total = {name: value.clone() for name, value in first.items()}
    for name, value in second.items():
        total[name] = total[name].add_(value, alpha=scale) if name in total else scale * value
    return total


def scaled(gradient: Mapping[str, Tensor], scale: float) -> Gradient:
    """Return scale * gradient as new tensors."""
    return {name: scale * value for name, value in gradient.items()}


def like(values: Tensor, weight: Tensor) -> Tensor:
    """Return values of a weight on its device, in its format, and spread as it is.

    Args:
        values: All of them, the same in every process.
        weight: The weight, of which this process may hold a part.
    """
    if not isinstance(weight, DTensor):
        return values.to(weight)
    placed = values.to(weight.device, weight.dtype)
    return distribute_tensor(placed, weight.device_mesh, weight.placements, src_data_rank=None)


def _whole(total: Tensor) -> Tensor:
    """Return a sum over all processes where the weights are spread over several."""
    return total.full_tensor() if isinstance(total, DTensor) else total


def _wide(value: Tensor) -> Tensor:
    """Return float64; float32 on Apple's devices, which have no float64."""
    return value.float() if value.device.type == "mps" else value.double()
