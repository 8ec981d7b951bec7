"""Membership scores: how familiar a text looks. Higher always means more likely a member."""

import math

from expunge.audit.evidence import Scores
from expunge.audit.metrics.probability import mean_log_probability


def _lowest_mean(values: tuple[float, ...], share: float) -> float | None:
    if not values:
        return None
    count = max(1, int(share * len(values)))
    return math.fsum(sorted(values)[:count]) / count


def loss(scores: Scores) -> float | None:
    """Return minus the mean loss per content token, in nats (LOSS attack, arXiv 1709.01604)."""
    return mean_log_probability(scores)


def zlib(scores: Scores) -> float | None:
    """Return minus the mean loss divided by the zlib size of the text in bytes.

    Calibrates for how repetitive the text is (arXiv 2012.07805). None without content tokens or
    without a size.
    """
    mean = mean_log_probability(scores)
    return None if mean is None or scores.zlib <= 0 else mean / scores.zlib


def min_k(scores: Scores, share: float = 0.4) -> float | None:
    """Return the mean log-probability of the least likely `share` of content tokens.

    `max(1, int(share * T))` tokens; share 1 equals `loss` (Min-K%, arXiv 2310.16789).
    """
    return _lowest_mean(scores.logp[: max(scores.content, 0)], share)


def min_k_plus(scores: Scores, share: float = 0.2) -> float | None:
    """Return the mean of the lowest `share` of z-scores of content tokens.

    z is (log p - mean) / sd over the vocabulary under the model (Min-K%++, arXiv 2404.02936).
    """
    return _lowest_mean(scores.z[: max(scores.content, 0)], share)
