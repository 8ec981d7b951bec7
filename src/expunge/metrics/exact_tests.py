"""Exact tests for few records: paired answers, people, and signs of differences."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ENUMERATED = 14
"""Clusters up to which all sign assignments are counted; beyond, they are drawn."""

_DRAWN = 20_000


def mcnemar(more: int, fewer: int, *, rivals: int = 1) -> float:
    """Return the exact one-sided p-value of answers that only one model gives.

    Of the facts that exactly one of `rivals` + 1 models states, the judged model states `more` and
    the rivals together `fewer`. Where all are alike each model is as likely to be the one, so
    `more` is binomial with chance 1 / (rivals + 1). With one rival this is McNemar's exact test.

    Raises:
        ValueError: A count is negative, or there is no rival.

    Example:
        >>> mcnemar(5, 0)
        0.03125
        >>> round(mcnemar(8, 2), 4)
        0.0547
    """
    if min(more, fewer) < 0 or rivals < 1:
        raise ValueError("McNemar's test needs counts and a rival")
    if more == 0:
        return 1.0
    from scipy.special import bdtrc

    # P(X >= more): `bdtrc` excludes its first argument.
    return float(bdtrc(more - 1, more + fewer, 1 / (rivals + 1)))


def sign_flip(differences: Array, clusters: Sequence[str]) -> float:
    """Return the one-sided p-value of a mean difference above zero, signs flipped by cluster.

    If the judged model is like a gold, either sign of the difference is as likely. All records of
    one person flip together. The smallest p is 2^-C for C clusters: 5 people .031, one person .5.
    All assignments are counted up to 14 clusters, 20,000 are drawn beyond.

    Args:
        differences: Judged model minus gold, shape (records,).
        clusters: Subject of each record.

    Raises:
        ValueError: There is no record, or not one cluster for each.

    Example:
        >>> sign_flip(np.array([0.3, 0.1, 0.2, 0.4, 0.1]), ["a", "b", "c", "d", "e"])
        0.03125
    """
    if not len(differences) or len(differences) != len(clusters):
        raise ValueError("a sign-flip test needs one cluster for each difference")
    names, member = np.unique(np.asarray(clusters), return_inverse=True)
    # The mean over records is a sum over clusters, so that only their sums need flipping.
    sums = np.bincount(member, weights=differences, minlength=len(names))
    if len(names) <= _ENUMERATED:
        # Row i holds the binary digits of i: every assignment once, [2^C, C].
        bits = np.arange(2 ** len(names))[:, None] >> np.arange(len(names)) & 1
        signs = 1.0 - 2.0 * bits
        return float(np.mean(signs @ sums >= sums.sum() - 1e-12))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(_DRAWN, len(names)))
    # The observed assignment counts as one draw, so that p is never zero.
    return float((1 + np.sum(signs @ sums >= sums.sum() - 1e-12)) / (1 + _DRAWN))


def rank_test(value: float, controls: Sequence[float]) -> float:
    """Return the exact p-value of one person's value among control people: rank / (m + 1).

    With 19 control people the highest value has p = .05.

    Raises:
        ValueError: There is no control person.

    Example:
        >>> rank_test(3.0, [1.0, 2.0, 4.0])
        0.5
    """
    if not controls:
        raise ValueError("a rank needs control people")
    return (1 + sum(other >= value for other in controls)) / (len(controls) + 1)
