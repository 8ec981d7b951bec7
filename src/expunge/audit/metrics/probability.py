"""Probability: how likely the model finds the answer, per token."""

import math

from expunge.audit.evidence import Scores


def mean_log_probability(scores: Scores) -> float | None:
    """Return the mean of log p over content tokens in nats; None without a content token.

    `l = (1/T) sum_t log p(y_t | x, y_<t)`, the end-of-turn token left out.
    """
    if scores.content <= 0:
        return None
    return math.fsum(scores.logp[: scores.content]) / scores.content


def probability(scores: Scores) -> float | None:
    """Return the length-normalised probability of the answer, in [0, 1]; None without tokens.

    `exp(mean_t log p_t)`: the geometric mean of token probabilities (TOFU, arXiv 2401.06121).
    """
    mean = mean_log_probability(scores)
    return None if mean is None else from_mean(mean)


def from_mean(mean: float) -> float:
    """Return exp of a mean log-probability per token: the length-normalised probability."""
    return math.exp(mean)
