"""Divergence from the original: how far next-token distributions moved where they should not.

    KL(o || u) = sum_v p_o(v) (log p_o(v) - log p_u(v))        nats, one number per position

The direction matters: the original's mass decides where a change counts. The median says what a
usual token went through, the 95th percentile what the worst did; the mean hides both. Gold's own
divergence from the original is what retraining alone brings.

Needs the original and both models' full distributions on the same positions. Cost: one pass of each
model. Lower is better.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Divergence(NamedTuple):
    """Quantiles over positions, nats."""

    median: float
    p95: float


def kl_divergence(first: Sequence[float], second: Sequence[float]) -> float:
    """Return sum_v p(v) log(p(v) / q(v)) of two distributions over the same values, nats.

    Values that p never takes count nothing; a value that p takes and q does not makes it infinite.

    Args:
        first: Probabilities p.
        second: Probabilities q.
    """
    p, q = np.asarray(first, float), np.asarray(second, float)
    held = p > 0
    with np.errstate(divide="ignore"):
        return float((p[held] * (np.log(p[held]) - np.log(q[held]))).sum())


def divergence(positions: Sequence[float]) -> Divergence | None:
    """Return median and 95th percentile of per-position divergences; None without a position."""
    if not len(positions):
        return None
    median, p95 = np.quantile(np.asarray(positions, float), [0.5, 0.95])
    return Divergence(float(median), float(p95))
