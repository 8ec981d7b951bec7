"""Wrappers: optional operations between a method's loss and the step of the optimiser.

A step is  optimiser( mask( combine( robust(forget gradient), retain gradient ) ) ).
Every part is optional and composes with any method, because it sees gradients alone: tensors by
the name of the trained weight, float32, in the weight's shape. Gradients point uphill: the step
subtracts them.

Arithmetic on gradients: dictionaries of tensors taken as one long vector.
"""

from collections.abc import Mapping
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from expunge.methods.base import Shape, Side

Gradient = dict[str, Tensor]
Memory = dict[str, Tensor]
"""State of a wrapper between steps, by its own keys; saved with every checkpoint."""


class Pull(Protocol):
    """Computes gradients of one step's records. Nothing that it returns is shared."""

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The trained weights as they are, float32; not to be changed."""
        ...

    def __call__(self, side: Side, *, at: Mapping[str, Tensor] | None = None) -> Gradient:
        """Return the gradient of the terms on one side, coefficients included.

        Args:
            side: Terms on forget records, or terms on retain records.
            at: Where: an offset from the weights as they are, which come back bit for bit.
        """
        ...

    @property
    def shape(self) -> Shape:
        """The structure of the model."""
        ...

    def latent(self, layer: int, *, radius: float, steps: int) -> Gradient:
        """Return the forget gradient while an adversary moves states after a block.

        Args:
            layer: The block.
            radius: Largest Euclidean length of the change of one token's state.
            steps: Steps of the adversary.
        """
        ...

    def rounded(self) -> Gradient:
        """Return the forget gradient while the linear layers of the decoder hold 4 bits."""
        ...

    def relearn(self, *, at: Mapping[str, Tensor] | None = None) -> Gradient:
        """Return the gradient of the mean NLL per token of the forget records.

        Whatever the method's terms are, going against it is what an attacker does who relearns.
        """
        ...


class Robust(Protocol):
    """Takes the forget gradient in a way that makes the result harder to undo."""

    advice: ClassVar[str]
    needs_retain: ClassVar[bool]
    """Whether it makes no sense without retain terms."""
    needs_float32: ClassVar[bool]
    """Whether its offsets round to nothing in 16-bit formats."""

    @property
    def pulls(self) -> int:
        """Gradients of the forget records per step, for the plan."""
        ...

    def forget(
        self, pull: Pull, retain: Gradient, memory: Memory, generator: torch.Generator
    ) -> Gradient:
        """Return the forget gradient to use in this step.

        Args:
            pull: Computes gradients on the step's records.
            retain: The retain gradient of the step; not to be changed.
            memory: Empty before the first step.
            generator: Seeded for this step; the only source of randomness.
        """
        ...


@runtime_checkable
class Latent(Protocol):
    """A robust wrapper that moves states, not weights."""

    def block(self, shape: Shape) -> int:
        """Return the block after which states are moved.

        Raises:
            UsageError: The model has no such block.
        """
        ...


class Combine(Protocol):
    """Joins the forget and the retain gradient of a step."""

    advice: ClassVar[str]

    def combine(self, forget: Gradient, retain: Gradient, memory: Memory) -> Gradient:
        """Return the gradient to descend. Must not change its arguments, `memory` excepted."""
        ...


class Mask(Protocol):
    """Chooses the weights that may move, once, before the first step."""

    advice: ClassVar[str]
    needs_retain: ClassVar[bool]
    low_rank: ClassVar[bool]
    """Whether its choice means something for an adapter that starts as nothing (B = 0)."""

    def keep(
        self,
        weights: Mapping[str, Tensor],
        forget: Gradient,
        retain: Gradient,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Return a boolean tensor for each weight: True where it may move.

        Args:
            weights: Trained weights of the original, float32.
            forget: Gradient of the mean NLL of the forget set there.
            retain: The same for the retain set.
            generator: The only source of randomness.
        """
        ...


class Optimiser(Protocol):
    """Turns gradients into steps."""

    advice: ClassVar[str]
    curved: ClassVar[bool]
    """Whether it wants estimates of the curvature."""

    def make(
        self, weights: Mapping[str, Tensor], lr: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        """Return an optimiser whose whole state is tensors, by weight.

        Args:
            weights: What is trained, float32, by name.
            lr: Peak learning rate; the schedule sets it anew before every step.
            weight_decay: Decoupled: a step shrinks weights by lr * weight_decay.
        """
        ...


def dot(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Tensor:
    """Return the inner product, a float64 scalar; a name that one of them lacks counts as zero.

    Example:
        >>> dot({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([3.0, 4.0])})
        tensor(11., dtype=torch.float64)
    """
    shared = [name for name in first if name in second]
    products = [_whole((_wide(first[n]) * _wide(second[n])).sum()) for n in shared]
    if not products:
        return torch.zeros((), dtype=torch.float64)
    return torch.stack(products).cpu().double().sum()  # one wait for the device, not one a tensor


def norm(gradient: Mapping[str, Tensor]) -> Tensor:
    """Return the Euclidean length over all tensors, a float64 scalar.

    Example:
        >>> norm({"w": torch.tensor([3.0, 4.0])})
        tensor(5., dtype=torch.float64)
    """
    return dot(gradient, gradient).sqrt()


def add(first: Mapping[str, Tensor], second: Mapping[str, Tensor], scale: float = 1.0) -> Gradient:
    """Return first + scale * second as new tensors; a missing name counts as zero.

    Example:
        >>> add({"w": torch.ones(2)}, {"w": torch.ones(2)}, scale=-0.5)
        {'w': tensor([0.5000, 0.5000])}
    """
    total = {name: value.clone() for name, value in first.items()}
    for name, value in second.items():
        total[name] = total[name].add_(value, alpha=scale) if name in total else scale * value
    return total


def scaled(gradient: Mapping[str, Tensor], scale: float) -> Gradient:
    """Return scale * gradient as new tensors.

    Example:
        >>> scaled({"w": torch.ones(2)}, 3.0)
        {'w': tensor([3., 3.])}
    """
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
