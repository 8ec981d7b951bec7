"""Multiple choice: which answer a model prefers, and whether its confidence is calibrated."""

import math
from collections.abc import Sequence

import numpy as np

from expunge.metrics.memorization import log_sum_exp


def option_probability(correct: float, wrong: Sequence[float]) -> float | None:
    """Return p(correct) / (p(correct) + sum_j p(wrong_j)), in (0, 1); None without a wrong answer.

    TOFU's probability on real authors and world facts (arXiv 2401.06121), where the answers are
    short and guessable. Chance is 1 / (number of options).

    Args:
        correct: Mean log-probability per token of the true answer, nats.
        wrong: The same of each wrong option.

    Example:
        >>> round(option_probability(-1.0, [-1.0, -1.0, -1.0]), 4)
        0.25
    """
    if not wrong:
        return None
    return math.exp(correct - log_sum_exp([correct, *wrong]))


def choice_accuracy(logps: Sequence[float], right: int) -> float | None:
    """Return 1 when the right option is the likeliest, 0 when another is; ties share the point.

    Multiple-choice accuracy of one question. With sums of token log-probabilities it is lm-eval's
    `acc`, with means per token its length-normalised form, with those of the letters the usual
    MMLU. It overstates success of unlearning: read it beside the open answer (arXiv 2510.07626).

    Args:
        logps: Log-probability of each option, nats.
        right: Index of the right option.

    Returns:
        None with fewer than two options.

    Example:
        >>> choice_accuracy([-1.0, -2.0], right=0), choice_accuracy([-1.0, -1.0], right=0)
        (1.0, 0.5)
    """
    if len(logps) < 2:
        return None
    best = max(logps)
    winners = [index for index, value in enumerate(logps) if value == best]
    return 1 / len(winners) if right in winners else 0.0


BINS = 10
"""Bins of equal mass in which calibration is measured."""


def expected_calibration_error(confidences: Sequence[float], right: Sequence[float]) -> float:
    """Return ECE = sum_b (n_b / n) |mean confidence_b - mean accuracy_b|, in [0, 1].

    `BINS` bins of equal mass, so that none is empty; answers of the same confidence share a bin,
    and with fewer distinct confidences than bins each has its own (arXiv 1706.04599; equal mass as
    in arXiv 1904.01685). Lower is better.

    Args:
        confidences: Probability that the model gave its chosen option.
        right: 1 where the chosen option is the right one.

    Raises:
        ValueError: There is no answer, or the sides differ in length.

    Example:
        >>> expected_calibration_error([0.75, 0.75, 0.75, 0.75], [1.0, 1.0, 1.0, 0.0])
        0.0
    """
    if not len(confidences) or len(confidences) != len(right):
        raise ValueError("calibration needs one confidence for each answer, and an answer")
    sure, hits = np.asarray(confidences, float), np.asarray(right, float)
    values, member, counts = np.unique(sure, return_inverse=True, return_counts=True)
    middles = np.cumsum(counts) - counts / 2
    group = np.arange(len(values))
    if len(values) > BINS:
        group = np.minimum((middles * BINS / len(sure)).astype(int), BINS - 1)
    bin_of = group[member]
    gaps = np.bincount(bin_of, weights=sure) - np.bincount(bin_of, weights=hits)
    return float(np.abs(gaps).sum() / len(sure))


def brier(probabilities: Sequence[float], right: int) -> float:
    """Return sum_i (p_i - [i is right])^2 of one question, in [0, 2]; lower is better.

    Args:
        probabilities: Probability of each option, adding up to 1.
        right: Index of the right option.

    Example:
        >>> brier([0.5, 0.5], right=0)
        0.5
    """
    return sum((p - float(i == right)) ** 2 for i, p in enumerate(probabilities))
