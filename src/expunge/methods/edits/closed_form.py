"""Rewriting: the change of a linear map that gives some keys new values and leaves others alone.

Goals: which states of a subject lead to another answer.

minimise over delta_i:  NLL(alternative answer) + decay (|delta_i| / |h_i|)^2
                        where |delta_i| <= clamp |h_i|
"""

from typing import NamedTuple

import torch
from torch import Tensor

from expunge.methods.base import Stream
from expunge.methods.edits.base import Bench


def null_space(second: Tensor, share: float) -> Tensor:
    """Return the projector, [k, k], to the directions with at most `share` of all energy.

    Args:
        second: Second moment of the keys to keep, [k, k].
        share: Energy, as a share of the trace, that the directions may hold together.
    """
    values, vectors = torch.linalg.eigh(second.double())
    values = values.clamp(min=0.0)
    free = vectors[:, values.cumsum(0) <= share * values.sum()]
    return free @ free.T


def rewriting(keys: Tensor, wanted: Tensor, projector: Tensor, ridge: float) -> Tensor:
    """Return the change of a matrix, [d, k] float64, that maps keys [n, k] to wanted [n, d].

    Example:
        >>> keys, wanted = torch.eye(2)[:1], torch.ones(1, 2)
        >>> rewriting(keys, wanted, torch.eye(2, dtype=torch.float64), ridge=0.0)
        tensor([[1., 0.],
                [1., 0.]], dtype=torch.float64)
    """
    wide = keys.double()
    free = wide @ projector
    gram = free @ free.T
    gram.diagonal().add_(ridge * wide.square().sum(-1).mean())
    return torch.linalg.solve(gram, wanted.double()).T @ free


class Search(NamedTuple):
    """How goals are found: steps of Adam."""

    steps: int
    lr: float
    """In units of the root mean square of the states."""
    decay: float
    clamp: float
    """Largest |delta| in units of |h|."""


def goal_change(bench: Bench, layer: int, start: Tensor, how: Search) -> Tensor:
    """Return what, added to the states of the subjects, brings the alternative answer.

    Args:
        bench: Reads the model.
        layer: Block after which it is added.
        start: States of the subjects there, [n, d].
        how: Steps and limits.
    """
    size = start.norm(dim=-1, keepdim=True)
    change = torch.zeros_like(start)
    optimiser = torch.optim.Adam([change], lr=how.lr * float(start.square().mean().sqrt()))
    for step in range(how.steps):
        steered = bench.steer(Stream.ALTERNATIVE, layer, change)
        change.grad = steered.gradient + 2 * how.decay * change / size.square()
        optimiser.step()
        change.mul_((how.clamp * size / change.norm(dim=-1, keepdim=True)).clamp(max=1.0))
        nll = float(steered.nll.mean())
        bench.progress(step / how.steps, f"alternative nll {nll:.2f}")
    return change
