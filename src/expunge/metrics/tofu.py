"""The metrics of TOFU (arXiv 2401.06121): truth ratio, forget quality, model utility."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from expunge.metrics.memorization import log_mean_exp

Average = Literal["geometric", "arithmetic"]


def truth_ratio(
    correct: float, wrong: Sequence[float], *, average: Average = "geometric"
) -> float | None:
    """Return r, in (0, inf): above 1 the model prefers falsehood; None without a wrong answer.

        r = avg_j p(wrong_j) / p(correct)      p: length-normalised, exp of the mean log-probability

    `correct` is the true answer in other words, so that its wording was not trained on either. The
    code of TOFU takes the geometric mean over wrong answers, its paper the arithmetic one. Both are
    here by name; every number of an audit is geometric (arXiv 2401.06121).

    Needs a restated true answer and about five perturbed ones: six passes. Weak on single records:
    on published logs it flags a quarter of fully memorised facts.

    Args:
        correct: Mean log-probability per token of the restated true answer, nats.
        wrong: The same of each perturbed answer.
        average: `geometric` as in TOFU's code, `arithmetic` as in its paper.

    Example:
        >>> truth_ratio(-1.0, [-1.0, -1.0])
        1.0
    """
    if not wrong:
        return None
    mean = math.fsum(wrong) / len(wrong) if average == "geometric" else log_mean_exp(wrong)
    return math.exp(mean - correct)


def truth_share(correct: float, wrong: Sequence[float]) -> float | None:
    """Return c / (c + w) = 1 / (1 + r), in (0, 1): lower = more forgotten (arXiv 2506.12618).

    The monotone form of the truth ratio: 0.5 when truth and falsehood are equally likely.

    Example:
        >>> truth_share(-1.0, [-1.0])
        0.5
    """
    ratio = truth_ratio(correct, wrong)
    return None if ratio is None else 1 / (1 + ratio)


def forget_truth(ratio: float) -> float:
    """Return min(r, 1/r), TOFU's form on the forget set; 1 is its aim.

    Not monotone: a model that was pushed too far scores as low as one that remembers. For
    comparison with published tables only.

    Example:
        >>> forget_truth(1.0), forget_truth(4.0)
        (1.0, 0.25)
    """
    return min(ratio, 1 / ratio) if ratio > 0 else 0.0


def utility_truth(ratio: float) -> float:
    """Return max(0, 1 - r), TOFU's form on retained sets, in [0, 1]; higher is better.

    Example:
        >>> utility_truth(0.25), utility_truth(2.0)
        (0.75, 0.0)
    """
    return max(0.0, 1 - ratio)


MARGIN = 0.15
"""Largest KS distance that counts as equivalent; twice what golds differed by on published logs."""


class ForgetQuality(NamedTuple):
    """The two-sample Kolmogorov-Smirnov test of a model against gold.

    Example:
        >>> forget_quality([0.2, 0.4], [0.2, 0.4])
        ForgetQuality(distance=0.0, p=1.0, n=2)
    """

    distance: float
    """D: largest difference of the two distribution functions, in [0, 1]; lower is nearer gold."""
    p: float
    """TOFU's forget quality; not comparable between different n."""
    n: int
    """Records of the model; a p-value without it means nothing."""


def ks_distance(first: Sequence[float], second: Sequence[float]) -> float:
    """Return D = sup_x |F_1(x) - F_2(x)|, in [0, 1]; the same for r and 1/r.

    The Kolmogorov-Smirnov distance of two distributions of truth ratios. It has no gate: a mean
    over records hides stragglers.

    Raises:
        ValueError: One side is empty.

    Example:
        >>> ks_distance([0.1, 0.2], [0.8, 0.9])
        1.0
    """
    if not len(first) or not len(second):
        raise ValueError("a distance between distributions needs values on both sides")
    a, b = np.sort(np.asarray(first, float)), np.sort(np.asarray(second, float))
    points = np.concatenate([a, b])
    below_a = np.searchsorted(a, points, "right") / len(a)
    below_b = np.searchsorted(b, points, "right") / len(b)
    return float(np.abs(below_a - below_b).max())


def forget_quality(model: Sequence[float], gold: Sequence[float]) -> ForgetQuality:
    """Return KS distance and p-value of the truth ratios of a model against gold's.

    The p-value asks whether a difference can be seen, and with few records none can. On published
    logs the original itself passes in a third of draws of 20 facts; with 300 a model that keeps
    20 % of the facts always passes. So read the distance (arXiv 2401.06121).

    Exact p up to 10 000 records a side, as scipy's `ks_2samp`.

    Raises:
        ValueError: One side is empty.

    Example:
        >>> forget_quality([0.1, 0.2], [0.8, 0.9]).distance
        1.0
    """
    distance = ks_distance(model, gold)
    from scipy.stats import ks_2samp

    found = cast("Any", ks_2samp(model, gold))
    return ForgetQuality(distance, float(found.pvalue), len(model))


def distance_share(own: float, original: float, *, noise: float = 0.0) -> float | None:
    """Return s_D = 1 - (D_ug - D_gg) / (D_og - D_gg): 0 as the original, 1 as another gold.

    Args:
        own: KS distance of the model from gold.
        original: KS distance of the original from gold.
        noise: KS distance between two golds; 0 with one gold.

    Returns:
        None when the original is no farther from gold than golds are from each other.

    Example:
        >>> distance_share(own=0.1, original=0.4)
        0.75
    """
    gap = original - noise
    return None if gap <= 0 else 1 - (own - noise) / gap


def equivalence_p(distance: float, n: int, m: int) -> float:
    """Return the p-value of "the distributions differ by more than `MARGIN`"; small = equivalent.

    With D0 the true distance, D < D0 - d happens with probability at most
    exp(-2 n d^2) + exp(-2 m d^2) (DKW on each side, d shared equally). Conservative and
    distribution-free; 1 when D is not below the margin.

    Raises:
        ValueError: A side is empty.

    Example:
        >>> equivalence_p(0.2, 400, 400), equivalence_p(0.0, 4000, 4000) < 0.001
        (1.0, True)
    """
    if n < 1 or m < 1:
        raise ValueError("an equivalence test needs records on both sides")
    room = (MARGIN - distance) / 2
    if room <= 0:
        return 1.0
    return min(1.0, math.exp(-2 * n * room**2) + math.exp(-2 * m * room**2))


class Utility(NamedTuple):
    """Three means over one set of records, each in [0, 1]; higher is better.

    Example:
        >>> round(model_utility(Utility(0.5, 0.5, 0.5)), 3)
        0.5
    """

    probability: float
    """Normalised probability; with options on real authors and world facts."""
    rouge: float
    """ROUGE-L recall with stemming."""
    truth: float
    """Mean of max(0, 1 - truth ratio)."""


def harmonic_mean(values: Sequence[float]) -> float:
    """Return n / sum(1/v), or 0 when one value is 0.

    Raises:
        ValueError: There is no value, or one is negative.

    Example:
        >>> round(harmonic_mean([1.0, 0.5]), 3), harmonic_mean([1.0, 0.0])
        (0.667, 0.0)
    """
    if not values or min(values) < 0:
        raise ValueError("a harmonic mean needs values that are not negative")
    return 0.0 if min(values) == 0 else len(values) / sum(1 / value for value in values)


def model_utility(*sets: Utility) -> float:
    """Return the harmonic mean over all numbers of all sets, in [0, 1]; TOFU gives three sets.

        MU = harmonic mean of {retain, real authors, world facts} x {probability, ROUGE-L recall,
             max(0, 1 - truth ratio)}

    One zero makes it zero, and it does not see gibberish: shown for comparison (arXiv 2401.06121).

    Raises:
        ValueError: No set is given.

    Example:
        >>> model_utility(Utility(0.9, 0.9, 0.0))
        0.0
    """
    return harmonic_mean([value for each in sets for value in each])
