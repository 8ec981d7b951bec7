"""Calibration: does the model know how sure it may be?"""

from collections.abc import Sequence

import numpy as np


def expected_calibration_error(
    confidences: Sequence[float], right: Sequence[float], *, bins: int = 10
) -> float:
    """Return ECE = sum_b (n_b / n) |mean confidence_b - mean accuracy_b|, in [0, 1].

    Bins of equal mass, so that none is empty; answers of the same confidence share a bin, and with
    fewer distinct confidences than bins each has its own (arXiv 1706.04599; equal mass as in
    arXiv 1904.01685). Lower is better.

    Args:
        confidences: Probability that the model gave its chosen option.
        right: 1 where the chosen option is the right one.
        bins: Number of bins.

    Raises:
        ValueError: There is no answer, or the sides differ in length.
    """
    if not len(confidences) or len(confidences) != len(right):
        raise ValueError("calibration needs one confidence for each answer, and an answer")
    sure, hits = np.asarray(confidences, float), np.asarray(right, float)
    values, member, counts = np.unique(sure, return_inverse=True, return_counts=True)
    middles = np.cumsum(counts) - counts / 2
    group = np.arange(len(values))
    if len(values) > bins:
        group = np.minimum((middles * bins / len(sure)).astype(int), bins - 1)
    bin_of = group[member]
    gaps = np.bincount(bin_of, weights=sure) - np.bincount(bin_of, weights=hits)
    return float(np.abs(gaps).sum() / len(sure))


def brier(probabilities: Sequence[float], right: int) -> float:
    """Return sum_i (p_i - [i is right])^2 of one question, in [0, 2]; lower is better.

    Args:
        probabilities: Probability of each option, adding up to 1.
        right: Index of the right option.
    """
    return sum((p - float(i == right)) ** 2 for i, p in enumerate(probabilities))
