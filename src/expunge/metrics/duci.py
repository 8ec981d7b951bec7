"""DUCI: which share of a set still behaves as trained on.

    rho = (mean_x 1[score(x) > c] - FPR) / (TPR - FPR),    clipped to 0 .. 1

score is RMIA's, c the threshold with the largest TPR - FPR on reference models whose training data
are known. Guesses about single records are wrong in known proportions, which the formula takes off.
Source: Tong et al., "How much of my dataset did you use?", ICLR 2025. Deviation: one pair of rates
for all records, not one for each, as reference models are few.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from expunge.metrics.statistics import DRAWS, Estimate

Array = NDArray[np.float64]

LEAST_GAP = 0.2
"""Smallest TPR - FPR from which a share can be told."""


class Rates(NamedTuple):
    """Where reference models part members from others, and how often that is right."""

    threshold: float
    hits: float
    """Share of members above the threshold (TPR)."""
    alarms: float
    """Share of others above it (FPR)."""


def rates(members: Array, others: Array) -> Rates:
    """Return the threshold with the largest TPR - FPR.

    Args:
        members: Scores of records under models that were trained on them, any shape.
        others: Scores of records under models that were not, any shape.

    Raises:
        ValueError: One of the two is empty.

    Example:
        >>> rates(np.array([0.9, 0.8]), np.array([0.1, 0.2]))
        Rates(threshold=0.2, hits=1.0, alarms=0.0)
    """
    if not members.size or not others.size:
        raise ValueError("the rates need models that saw records, and models that did not")
    found = [
        Rates(float(c), float((members > c).mean()), float((others > c).mean()))
        for c in np.unique(np.concatenate([members.ravel(), others.ravel()]))
    ]
    return max(found, key=lambda each: each.hits - each.alarms)


def share_in(judged: Array, members: Array, others: Array, *, seed: int) -> Estimate | None:
    """Return the share of the set with its 95 % interval, from a bootstrap over records.

    Args:
        judged: Scores of the records under the judged model, (records,).
        members: Scores of records under models that were trained on them, (pairs,).
        others: Scores of records under models that were not, (pairs,).
        seed: Of the draws.

    Returns:
        None where the reference models cannot tell members from others.

    Example:
        >>> high, low = np.array([0.9, 0.8]), np.array([0.1, 0.2])
        >>> share_in(np.array([0.85, 0.15]), high, low, seed=0).value
        0.5
    """
    found = rates(members, others)
    if found.hits - found.alarms < LEAST_GAP:
        return None
    sides = (judged, members, others)
    above = [float((side > found.threshold).mean()) for side in sides]
    # To draw records again is to draw from a binomial: of a record only its side matters.
    rng = np.random.default_rng(seed)
    drawn = [
        rng.binomial(len(side), rate, DRAWS) / len(side)
        for side, rate in zip(sides, above, strict=True)
    ]
    low, high = np.quantile(_share(*drawn), [0.025, 0.975])
    return Estimate(float(_share(*above)), float(low), float(high))


def _share(judged: Array | float, hits: Array | float, alarms: Array | float) -> Array:
    gap = np.maximum(np.subtract(hits, alarms), LEAST_GAP / 2)
    return np.clip(np.subtract(judged, alarms) / gap, 0.0, 1.0)
