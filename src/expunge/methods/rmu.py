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

import torch
from torch import Tensor

from expunge.methods.blocks import block
from expunge.methods.terms import MLP_OUT, Recipe, Representation, Shape, Stream, Term, Trains


def towards(hidden: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared distance per position; [n, d] and [d] or [n, d] -> [n]."""
    wide = torch.promote_types(hidden.dtype, torch.float32)
    return (hidden.to(wide) - target.to(wide)).square().mean(-1)


def random_direction(width: int, seed: int) -> Tensor:
    """Return a unit vector with non-negative coordinates, [d], float32."""
    drawn = torch.rand(width, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm()


def pinned(name: str, layer: int, coef: float) -> Representation:
    """Return the term that keeps the states of retain text after one block where they were."""

    def pin(hidden: Tensor, reference: Tensor | None) -> Tensor:
        if reference is None:
            raise AssertionError("the pinning term needs the original's states")
        return towards(hidden, reference)

    return Representation(
        name=name,
        streams=(Stream.RETAIN,),
        coef=coef,
        layer=layer,
        loss=pin,
        needs_reference=True,
    )


def up_to(layer: int) -> Trains:
    """Return the second MLP matrix of three blocks, the last of which is `layer`."""
    return Trains(modules=MLP_OUT, first_layer=max(0, layer - 2), last_layer=layer)


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
        return (forget, pinned("retain", layer, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Train the second MLP matrix of three blocks up to the layer."""
        return up_to(block(shape, self.layer, shape.layers // 4))
