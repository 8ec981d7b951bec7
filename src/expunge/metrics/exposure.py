"""Exposure: how far up a planted secret stands among all secrets of its form."""

import math
from collections.abc import Sequence

UNSEEN = 1 / math.log(2)
"""Mean exposure in bits of canaries that were never seen."""
CONFIDENCE = 0.95
"""Of the bound that the mean of unseen canaries keeps."""


def exposure(rank: float, space: float) -> float:
    """Return log2(space) - log2(rank), bits; lower is more forgotten (arXiv 1802.08232).

    The space holds all candidates of one format (all telephone numbers, all codes). A model that
    never saw the secret ranks it uniformly: 1 / ln 2 = 1.44 bits on average, exactly. One pass per
    sampled candidate and secret; 10 000 candidates are recommended.

    Args:
        rank: Place of the canary among all candidates, likeliest first, from 1.
        space: Number of candidates.

    Raises:
        ValueError: The rank is not in 1..space.

    Example:
        >>> exposure(1, 1024)
        10.0
    """
    if not 1 <= rank <= space:
        raise ValueError(f"rank {rank:g} is not in 1..{space:g}")
    return math.log2(space) - math.log2(rank)


def exposure_by_rank(canary: float, candidates: Sequence[float]) -> float:
    """Return the exposure of a canary whose whole candidate space was scored, bits.

    Ties count half: the rank is 1 + (better candidates) + (equal candidates) / 2.

    Args:
        canary: Log-probability of the canary, nats.
        candidates: Log-probabilities of all other candidates.

    Example:
        >>> exposure_by_rank(-1.0, [-2.0, -3.0, -4.0])
        2.0
    """
    better = sum(value > canary for value in candidates)
    equal = sum(value == canary for value in candidates)
    return exposure(1 + better + equal / 2, len(candidates) + 1)


def mean_exposure_bound(count: int) -> float:
    """Return the mean exposure that `count` unseen canaries exceed in 5 % of cases only, bits.

    Ranks of unseen canaries are uniform, so exposures are exponential with mean 1/ln 2 and their
    mean is a gamma variable. A higher mean says that the model has seen them.

    Raises:
        ValueError: `count` is not positive.

    Example:
        >>> round(mean_exposure_bound(1), 2)
        4.32
    """
    if count < 1:
        raise ValueError("a mean needs at least one canary")
    from scipy.special import gammaincinv

    return float(gammaincinv(count, CONFIDENCE)) / count * UNSEEN
