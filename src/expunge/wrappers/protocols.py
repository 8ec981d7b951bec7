"""Wrappers: what may stand between a method's loss and the step of the optimiser.

A step is  optimiser( mask( combine( robust(forget gradient), retain gradient ) ) ).
Every part is optional and composes with any method, because it sees gradients alone: tensors by
the name of the trained weight, float32, in the weight's shape. Gradients point uphill: the step
subtracts them.
"""

from collections.abc import Mapping
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from expunge.methods.terms import Side

Gradient = dict[str, Tensor]
Memory = dict[str, Tensor]
"""What a wrapper keeps from step to step, by keys of its own; saved with every checkpoint."""


class Pull(Protocol):
    """Computes gradients of one step's records. Nothing that it returns is shared."""

    def __call__(self, side: Side, *, at: Mapping[str, Tensor] | None = None) -> Gradient:
        """Return the gradient of the terms on one side, coefficients included.

        Args:
            side: Terms on forget records, or terms on retain records.
            at: Where: an offset from the weights as they are, which come back bit for bit.
        """
        ...


class Robust(Protocol):
    """Takes the forget gradient in a way that makes the result harder to undo."""

    advice: ClassVar[str]

    def forget(self, pull: Pull, memory: Memory, generator: torch.Generator) -> Gradient:
        """Return the forget gradient to use in this step.

        Args:
            pull: Computes gradients on the step's records.
            memory: Empty before the first step.
            generator: Seeded for this step; the only source of randomness.
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
