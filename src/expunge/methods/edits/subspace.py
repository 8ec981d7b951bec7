"""Collapse: shrink the directions that all text shares, so that specific ones are left.

`collapse` takes vectors apart along orthonormal directions and keeps a share of each part. With the
share s_min / s_i, of sizes s_i along the directions, all of them come down to the smallest: a
Mahalanobis distance in the space that they span. With share 0 they are gone.

Climb: move weights uphill in steps of one length, until the probes say that it is enough.

W <- W + lr G / |G|        |G| over all weights that move
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from expunge.methods.base import Stream
from expunge.methods.edits.base import Bench


class Components(NamedTuple):
    """Principal components: orthonormal directions and the mean square along each."""

    directions: Tensor
    """[k, c]"""
    values: Tensor
    """[c], descending, positive."""


def principal(second: Tensor, share: float) -> Components:
    """Return the largest components of a second moment, [k, k]: round(share k), at least one.

    Directions without energy are no components, so there may be fewer. The second moment is not
    centred: where vectors have a mean, its direction is among the first.
    """
    values, vectors = torch.linalg.eigh(second.double())
    wanted = max(1, round(share * len(values)))
    floor = 1e-9 * values[-1]
    kept = values[-wanted:] > floor
    return Components(vectors[:, -wanted:][:, kept].flip(1), values[-wanted:][kept].flip(0))


def collapse(vectors: Tensor, directions: Tensor, kept: Tensor) -> Tensor:
    """Return vectors, [n, k], with the share kept, [c], of their part along directions, [k, c].

    Example:
        >>> east = torch.tensor([[1.0], [0.0]])
        >>> collapse(torch.tensor([[3.0, 4.0]]), east, torch.tensor([0.0]))
        tensor([[0., 4.]])
    """
    parts = (vectors @ directions) * (1 - kept)
    return vectors - parts @ directions.T


def softened(vectors: Tensor, components: Components) -> Tensor:
    """Return vectors, [n, k], with the parts along all components brought to the smallest one."""
    kept = components.values[-1] / components.values
    return collapse(vectors, components.directions.to(vectors), kept.to(vectors))


def token_components(
    bench: Bench, input_share: float, output_share: float
) -> tuple[dict[str, Components], dict[str, Components]]:
    """Return components of the inputs, and of the loss's gradients at the outputs, by matrix.

    Over all tokens of the forget set; each share as in `principal`.
    """
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def gather(name: str, a: Tensor, g: Tensor) -> None:
        inputs[name] = inputs.get(name, 0.0) + a.double().T @ a.double()
        outputs[name] = outputs.get(name, 0.0) + g.double().T @ g.double()

    bench.tokens(Stream.FORGET, gather)
    return (
        {name: principal(second, input_share) for name, second in inputs.items()},
        {name: principal(second, output_share) for name, second in outputs.items()},
    )


def climb(
    bench: Bench,
    weights: Mapping[str, Tensor],
    uphill: Callable[[], Mapping[str, Tensor]],
    *,
    steps: int,
    lr: float,
) -> None:
    """Move weights uphill in steps of length `lr` over all of them, until it is enough.

    Stops when the forget answers look unseen, and takes the last step back when retained answers
    are over the budget.

    Args:
        bench: Has the probes.
        weights: What moves, in place.
        uphill: Computes the direction at the present weights, by name, in the same shapes.
        steps: Largest number of steps.
        lr: Euclidean length of a step.
    """
    for step in range(steps):
        direction = uphill()
        squares = torch.stack([value.double().square().sum() for value in direction.values()])
        scale = lr / float(squares.sum().sqrt().clamp(min=1e-30))
        for name, value in direction.items():
            weights[name].add_(value, alpha=scale)
        bench.progress((step + 1) / steps, f"step {step + 1} of {steps}")
        state = bench.state()
        if state == "damaged":
            for name, value in direction.items():
                weights[name].sub_(value, alpha=scale)
        if state != "going on":
            return
