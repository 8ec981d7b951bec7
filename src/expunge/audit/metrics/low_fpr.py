"""The tail of a membership attack: how many members it is *sure* of.

An AUC near one half can hide a few records that are recognised beyond doubt (arXiv 2112.03570).
"""

import math
from collections.abc import Sequence

import numpy as np

RATES = ((0.01, 1000), (0.05, 100), (0.10, 20))
"""False-positive rates and the fewest non-members from which each can be measured."""


def measurable_rate(others: int) -> float | None:
    """Return the lowest false-positive rate that this many non-members can measure.

    1 % needs 1000, 5 % needs 100, 10 % needs 20; None below that.
    """
    return next((rate for rate, needed in RATES if others >= needed), None)


def tpr_at_fpr(members: Sequence[float], others: Sequence[float], rate: float) -> float:
    """Return the share of members above a threshold that at most `rate` of the others exceed.

    The threshold is one of the others' own scores, so the false-positive rate is never above
    `rate`. Chance is `rate` itself. Higher = more exposed.

    Raises:
        ValueError: One side is empty or the rate is not in (0, 1).
    """
    if not len(members) or not len(others) or not 0 < rate < 1:
        raise ValueError("a true-positive rate needs scores on both sides and a rate in (0, 1)")
    ordered = np.sort(np.asarray(others, float))[::-1]
    threshold = ordered[min(int(rate * len(ordered) + 1e-9), len(ordered) - 1)]
    return float((np.asarray(members, float) > threshold).mean())


def balanced_accuracy(members: Sequence[float], others: Sequence[float], *, at: float) -> float:
    """Return (TPR + TNR) / 2 of the rule "member above `at`", in [0, 1]; chance is one half.

    Raises:
        ValueError: One side is empty.
    """
    if not len(members) or not len(others):
        raise ValueError("a balanced accuracy needs scores on both sides")
    caught = (np.asarray(members, float) > at).mean()
    spared = (np.asarray(others, float) <= at).mean()
    return float(caught + spared) / 2


def empirical_epsilon(
    caught: int, members: int, false: int, others: int, *, delta: float = 0.0, exact: bool = True
) -> float:
    """Return a lower bound of the privacy loss that an attack shows, nats, at least 0.

    max(ln((TPR - delta) / FPR), ln((1 - FPR - delta) / FNR)). A certificate that promises less is
    refuted (arXiv 2101.04535).

    Args:
        caught: Members that the attack names.
        members: All members.
        false: Others that the attack names.
        others: All others.
        delta: The delta of the certificate.
        exact: Whether rates are replaced by their one-sided 95 % Clopper-Pearson bounds, as a claim
            needs; without, point estimates.

    Raises:
        ValueError: A side is empty.
    """
    if members < 1 or others < 1:
        raise ValueError("a privacy loss needs members and others")
    from expunge.audit.stats import clopper_pearson

    tpr, fpr = caught / members, false / others
    if exact:
        tpr, fpr = clopper_pearson(caught, members)[0], clopper_pearson(false, others)[1]
    return max(0.0, _log_ratio(tpr - delta, fpr), _log_ratio(1 - fpr - delta, 1 - tpr))


def _log_ratio(above: float, below: float) -> float:
    if above <= 0:
        return -math.inf
    return math.inf if below <= 0 else math.log(above / below)
