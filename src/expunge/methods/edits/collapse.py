"""Collapse: shrink the directions that all text shares, so that specific ones are left.

`collapse` takes vectors apart along orthonormal directions and keeps a share of each part. With the
share s_min / s_i, of sizes s_i along the directions, all of them come down to the smallest: a
Mahalanobis distance in the space that they span. With share 0 they are gone.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from expunge.methods.edits.protocol import Bench
from expunge.methods.terms import Stream


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
    """Return vectors, [n, k], with the share kept, [c], of their part along directions, [k, c]."""
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
