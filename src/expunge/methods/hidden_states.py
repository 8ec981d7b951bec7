"""States: the pieces that methods of kernel R share, on the residual stream after one block.

towards(h, target) = |h - target|^2 / d        for each position, d the width

Blocks: how a method says which blocks of a model it works on.

MMD: how far a few vectors are from a sample of Gaussian noise, in closed form.

MMD^2 of T vectors x_t to N(0, I) with the kernel k(x, y) = exp(-|x - y|^2 / b) is

    (1/T^2) sum_st k(x_s, x_t) - (2/T) sum_t E_y k(x_t, y) + E_yy' k(y, y')
    E_y k(x, y) = (b / (b + 2))^(d/2) exp(-|x|^2 / (b + 2)),  E_yy' k(y, y') = (b / (b + 4))^(d/2)

The expectations over the Gaussian are exact, nothing is sampled. The first sum keeps vectors apart:
without it all of them would collapse to zero.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from expunge.errors import UsageError
from expunge.methods.base import MLP_OUT, Coefficient, Representation, Shape, Stream, Trains

Compare = Callable[[Tensor, Tensor], Tensor]
"""States of the model and of the original, [n, d] each -> [n]."""


def towards(hidden: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared distance per position; [n, d] and [d] or [n, d] -> [n].

    Example:
        >>> towards(torch.tensor([[1.0, 3.0]]), torch.tensor([1.0, 1.0]))
        tensor([2.])
    """
    wide = torch.promote_types(hidden.dtype, torch.float32)
    return (hidden.to(wide) - target.to(wide)).square().mean(-1)


def random_direction(width: int, seed: int) -> Tensor:
    """Return a unit vector with non-negative coordinates, [d], float32.

    Example:
        >>> round(float(random_direction(8, seed=0).norm()), 3)
        1.0
    """
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
    """Return the second MLP matrix of three blocks, the last of which is `layer`.

    Example:
        >>> found = up_to(7)
        >>> found.first_layer, found.last_layer
        (5, 7)
    """
    return Trains(modules=MLP_OUT, first_layer=max(0, layer - 2), last_layer=layer)


def block(shape: Shape, layer: int, default: int) -> int:
    """Return the block of a hyperparameter; -1 stands for `default`.

    Raises:
        UsageError: The model has no such block.

    Example:
        >>> block(Shape(layers=12, width=768), -1, default=3)
        3
    """
    chosen = default if layer == -1 else layer
    if not 0 <= chosen < shape.layers:
        raise UsageError(
            "no-such-layer",
            what=f"the model has no block {layer}",
            why=f"its blocks are 0 to {shape.layers - 1}",
            fix="choose one of these, or leave the layer out",
        )
    return chosen


def blocks(shape: Shape, text: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """Return the blocks of a hyperparameter such as `10,20`, ascending; empty means `default`.

    Raises:
        UsageError: No list of numbers, or the model has no such block.

    Example:
        >>> blocks(Shape(layers=12, width=768), "4,8", default=(3,))
        (4, 8)
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isdecimal() for word in words):
        raise UsageError(
            "no-such-layer",
            what=f"{text} is no list of blocks",
            why=f"blocks are numbers from 0 to {shape.layers - 1}",
            fix='separate them by commas: layers = "10,20"',
        )
    named = [block(shape, int(word), 0) for word in words]
    return tuple(sorted(set(named or default)))


WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Bandwidths b in units of 2 d: two draws of N(0, I) are sqrt(2 d) apart."""


def noise_distance(vectors: Tensor) -> Tensor:
    """Return MMD^2 to N(0, I), the mean over five bandwidths; [T, d] -> scalar, 0 to 2.

    Example:
        >>> far, near = torch.full((1, 4), 9.0), torch.zeros(1, 4)
        >>> bool(noise_distance(far) > noise_distance(near))
        True
    """
    wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    width = wide.shape[-1]
    squares = wide.square().sum(-1)
    apart = (squares[:, None] + squares[None] - 2 * wide @ wide.T).clamp(min=0.0)
    total = squares.new_zeros(())
    for factor in WIDTHS:
        b = 2 * width * factor
        within = torch.exp(-apart / b).mean()
        across = (b / (b + 2)) ** (width / 2) * torch.exp(-squares / (b + 2)).mean()
        total = total + within - 2 * across + (b / (b + 4)) ** (width / 2)
    return total / len(WIDTHS)
