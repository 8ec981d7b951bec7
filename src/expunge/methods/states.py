"""States: the pieces that methods of kernel R share, on the residual stream after one block.

towards(h, target) = |h - target|^2 / d        for each position, d the width
"""

from collections.abc import Callable

import torch
from torch import Tensor

from expunge.methods.terms import (
    MLP_OUT,
    Coefficient,
    Representation,
    Stream,
    Trains,
)

Compare = Callable[[Tensor, Tensor], Tensor]
"""States of the model and of the original, [n, d] each -> [n]."""


def towards(hidden: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared distance per position; [n, d] and [d] or [n, d] -> [n]."""
    wide = torch.promote_types(hidden.dtype, torch.float32)
    return (hidden.to(wide) - target.to(wide)).square().mean(-1)


def random_direction(width: int, seed: int) -> Tensor:
    """Return a unit vector with non-negative coordinates, [d], float32."""
    drawn = torch.rand(width, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm()


def held_against_original(
    name: str, stream: Stream, layer: int, coef: Coefficient, compare: Compare
) -> Representation:
    """Return a term that compares the states after one block with those of the original."""

    def loss(hidden: Tensor, reference: Tensor | None) -> Tensor:
        assert reference is not None, "the term declares that it needs the original's states"
        return compare(hidden, reference)

    return Representation(
        name=name, streams=(stream,), coef=coef, layer=layer, loss=loss, needs_reference=True
    )


def up_to(layer: int) -> Trains:
    """Return the second MLP matrix of three blocks, the last of which is `layer`."""
    return Trains(modules=MLP_OUT, first_layer=max(0, layer - 2), last_layer=layer)
