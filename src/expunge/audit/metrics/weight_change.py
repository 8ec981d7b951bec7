"""Weight change: which matrices moved, how far, and in how many directions. Never gated.

    relative = ||W_u - W_o||_F / ||W_o||_F
    rank     = (sum_i s_i^2)^2 / sum_i s_i^4       s: singular values of W_u - W_o

The rank is the participation ratio: 1 when one direction changed, the full rank when all changed
alike; it needs no decomposition. Low-rank changes in few matrices are what LoRA and edits leave,
changes in every number what full training does. Needs the weights of both models; no pass.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Change(NamedTuple):
    """What happened to one weight tensor."""

    relative: float
    """Size of the change relative to the tensor; 1 when it was zero before and is not now."""
    changed: float
    """Share of its numbers that differ at all."""
    rank: float
    """Participation ratio of the change of a matrix; 0 for vectors and unchanged ones."""


def weight_change(before: Array, after: Array) -> Change:
    """Return how one weight tensor changed.

    Args:
        before: The original's tensor, float32.
        after: The judged model's, of the same shape.
    """
    difference = after - before
    norm, moved = float(np.linalg.norm(before)), float(np.linalg.norm(difference))
    return Change(
        relative=moved / norm if norm else float(moved > 0),
        changed=float(np.mean(difference != 0)),
        rank=_participation(difference) if moved and difference.ndim == 2 else 0.0,
    )


def _participation(matrix: Array) -> float:
    narrow = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    scaled = narrow / np.abs(narrow).max()
    gram = scaled @ scaled.T
    return float(np.trace(gram, dtype=np.float64) ** 2 / np.square(gram, dtype=np.float64).sum())
