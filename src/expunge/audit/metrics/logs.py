"""Sums and means of probabilities that are given as logarithms."""

import math
from collections.abc import Sequence


def log_sum_exp(values: Sequence[float]) -> float:
    """Return log sum_i exp(values_i) without overflow.

    Raises:
        ValueError: There is no value.
    """
    top = max(values)
    if math.isinf(top):
        return top
    return top + math.log(math.fsum(math.exp(value - top) for value in values))


def log_mean_exp(values: Sequence[float]) -> float:
    """Return log of the mean of exp(values_i) without overflow.

    Raises:
        ValueError: There is no value.
    """
    return log_sum_exp(values) - math.log(len(values))
