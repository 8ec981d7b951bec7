"""RMU: representation misdirection for unlearning (arXiv:2403.03218).

    L = (1/N_f) sum_t |h_l(x_f)_t - c u|^2 / d
      + alpha (1/N_r) sum_t |h_l(x_r)_t - h_l^ref(x_r)_t|^2 / d

h_l is the residual stream after block l, u a fixed random direction: uniform on [0, 1) per
coordinate, scaled to length one. The same u is used throughout (one published fork redraws it every
step, trap T11).

Differs from the authors' code: only states that predict scored tokens count, so padding and prompts
do not dilute the loss; the forward pass stops at block l, and only `down_proj` of blocks l-2 .. l
trains, as in the released WMDP run. Defaults 6.5 and 1200 belong to a 7B model at layer 7; smaller
models need a layer in the first third and a scale near the size of their own states.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.methods.base import Recipe, Representation, Shape, Stream, Term, Trains
from expunge.methods.hidden_states import (
    block,
    held_against_original,
    random_direction,
    towards,
    up_to,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RMU:
    """Scramble the states of forget text at one layer, pin those of retain text."""

    family: ClassVar[str] = "representation"
    advice: ClassVar[str] = "for domains of knowledge in running text; weak on single facts"
    recipe: ClassVar[Recipe] = Recipe(epochs=10, lr=5e-5, lr_lora=5e-4)

    layer: int = -1
    """Block whose output is scrambled; -1: a quarter of the way up."""
    steering: float = 6.5
    alpha: float = 1200.0
    seed: int = 0

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the misdirection term and the pinning term."""
        layer = block(shape, self.layer, shape.layers // 4)
        target = self.steering * random_direction(shape.width, self.seed)

        def misdirect(hidden: Tensor, _reference: Tensor | None) -> Tensor:
            return towards(hidden, target.to(hidden.device))

        forget = Representation(
            name="forget", streams=(Stream.FORGET,), coef=1.0, layer=layer, loss=misdirect
        )
        pinned = held_against_original("retain", Stream.RETAIN, layer, self.alpha, towards)
        return (forget, pinned)

    def trains(self, shape: Shape) -> Trains | None:
        """Train the second MLP matrix of three blocks up to the layer."""
        return up_to(block(shape, self.layer, shape.layers // 4))
