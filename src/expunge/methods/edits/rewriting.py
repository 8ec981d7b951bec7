"""Rewriting: the change of a linear map that gives some keys new values and leaves others alone."""

import torch
from torch import Tensor


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
    """Return the change of a matrix, [d, k] float64, that maps keys [n, k] to wanted [n, d]."""
    wide = keys.double()
    free = wide @ projector
    gram = free @ free.T
    gram.diagonal().add_(ridge * wide.square().sum(-1).mean())
    return torch.linalg.solve(gram, wanted.double()).T @ free
