"""Adaptive RMU: misdirection as far as the states are large (arXiv:2408.06223).

    L = (1/N_f) sum_t |h_l(x_f)_t - beta |h_l^ref(x_f)_t| u|^2 / d
      + alpha (1/N_r) sum_t |h_l(x_r)_t - h_l^ref(x_r)_t|^2 / d

u is RMU's fixed random direction of length one. The target grows with the states of the layer, so
that one beta serves early and late layers, where RMU needs another coefficient for each.

Differs from published code: the length is that of the original's own state at each position, known
before step 0. The authors' code measures one length per topic, on the first batch that it meets,
so its target depends on the order of the data. As for RMU, only states that predict scored tokens
count (trap T11).
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.methods.base import Recipe, Shape, Stream, Term, Trains
from expunge.methods.hidden_states import (
    block,
    held_against_original,
    random_direction,
    towards,
    up_to,
)


def scaled_target(reference: Tensor, direction: Tensor, beta: float) -> Tensor:
    """Return beta |h_ref| u for each position; [n, d] and [d] -> [n, d].

    Example:
        >>> from torch import tensor
        >>> scaled_target(tensor([[3.0, 4.0]]), tensor([1.0, 0.0]), beta=2.0)
        tensor([[10.,  0.]])
    """
    return beta * reference.norm(dim=-1, keepdim=True) * direction


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptiveRMU:
    """RMU with a target in proportion to the original's states."""

    family: ClassVar[str] = "representation"
    advice: ClassVar[str] = "like rmu, without a scale to tune for every layer and model"
    recipe: ClassVar[Recipe] = Recipe(epochs=10, lr=5e-5, lr_lora=5e-4)

    layer: int = -1
    """Block whose output is scrambled; -1: a quarter of the way up."""
    beta: float = 5.0
    alpha: float = 1200.0
    seed: int = 0

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the misdirection term and the pinning term."""
        layer = block(shape, self.layer, shape.layers // 4)
        direction = random_direction(shape.width, self.seed)

        def misdirect(hidden: Tensor, reference: Tensor) -> Tensor:
            return towards(hidden, scaled_target(reference, direction.to(hidden), self.beta))

        forget = held_against_original("forget", Stream.FORGET, layer, 1.0, misdirect)
        pinned = held_against_original("retain", Stream.RETAIN, layer, self.alpha, towards)
        return (forget, pinned)

    def trains(self, shape: Shape) -> Trains | None:
        """Train the second MLP matrix of three blocks up to the layer."""
        return up_to(block(shape, self.layer, shape.layers // 4))
