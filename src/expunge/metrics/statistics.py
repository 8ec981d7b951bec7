"""Statistics of the audit: intervals by cluster bootstrap, exact binomial bounds, AUC, power.

Every function is deterministic: the same clusters and seed give the same resamples, so two models
that are judged on the same records are always compared on the same resamples (paired). The last
ones are exact tests for few records: paired answers, people, and signs of differences.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from expunge.metrics.outcomes import Status

Array = NDArray[np.float64]

DRAWS = 2000
"""Bootstrap resamples."""

ONE_SIDED = 0.90
"""Coverage of an interval both ends of which are one-sided 95 % bounds: what gates use."""

TWO_SIDED = 0.95
"""Coverage of the intervals that are printed beside scores."""

FEW_CLUSTERS = 5
"""Fewer clusters than this say too little about how clusters differ."""


class Estimate(NamedTuple):
    """A number with its interval.

    Example:
        >>> Estimate(0.1, 0.0, 0.2).high
        0.2
    """

    value: float
    low: float
    high: float


class Sample(NamedTuple):
    """Values of one metric, one per record, and the cluster (subject) of each record.

    Example:
        >>> Sample(values=np.array([0.0, 1.0]), clusters=("lin", "bo")).stream
        0
    """

    values: Array
    clusters: tuple[str, ...]
    stream: int = 0
    """Samples of the same records share a stream (paired); independent samples do not."""


@lru_cache(maxsize=16)
def _weights(clusters: tuple[str, ...], seed: int, stream: int) -> Array:
    rng = np.random.default_rng([seed, stream])
    names, member = np.unique(np.asarray(clusters), return_inverse=True)
    count = len(names)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=DRAWS)  # [2000, clusters]
    if count >= FEW_CLUSTERS:
        return drawn[:, member].astype(np.float64)  # [2000, records]
    weights = np.zeros((DRAWS, len(clusters)))
    for index in range(count):
        rows = np.flatnonzero(member == index)
        # A cluster that was drawn k times gives k times its number of records, drawn anew.
        weights[:, rows] = rng.multinomial(
            drawn[:, index] * len(rows), np.full(len(rows), 1 / len(rows))
        )
    return weights


def resample(clusters: Sequence[str], *, seed: int, stream: int = 0) -> Array:
    """Return how often each record occurs in each bootstrap resample: shape (2000, records).

    Whole clusters (subjects) are drawn with replacement, because facts about one person stand or
    fall together. With only ONE cluster the unit is the record: there is nothing else to draw, and
    the interval speaks about more facts of this subject, not about other subjects. With two to
    four clusters records are drawn within the drawn clusters too, which widens the interval: so
    few clusters alone would understate it.

    Raises:
        ValueError: There is no record.

    Example:
        >>> resample(["lin", "lin", "bo"], seed=0).shape
        (2000, 3)
    """
    if not clusters:
        raise ValueError("cannot resample zero records")
    return _weights(tuple(clusters), seed, stream)


def means(sample: Sample, *, seed: int) -> Array:
    """Return the mean of the sample in each resample: shape (2000,).

    Example:
        >>> set(means(Sample(values=np.array([2.0, 2.0]), clusters=("lin", "bo")), seed=0).tolist())
        {2.0}
    """
    weights = resample(sample.clusters, seed=seed, stream=sample.stream)
    return (weights @ sample.values) / weights.sum(axis=1)


def interval(value: float, draws: Array, coverage: float) -> Estimate:
    """Return the percentile interval of `coverage` from bootstrap `draws` around `value`.

    Example:
        >>> found = interval(0.5, np.linspace(0, 1, 101), 0.9)
        >>> round(found.low, 2), round(found.high, 2)
        (0.05, 0.95)
    """
    low, high = np.quantile(draws, [(1 - coverage) / 2, (1 + coverage) / 2])
    return Estimate(float(value), float(low), float(high))


def mean_interval(sample: Sample, *, seed: int) -> Estimate:
    """Return the mean of a sample with its cluster-bootstrap percentile interval.

    Example:
        >>> mean_interval(Sample(values=np.array([2.0, 2.0]), clusters=("lin", "bo")), seed=0)
        Estimate(value=2.0, low=2.0, high=2.0)
    """
    return interval(float(sample.values.mean()), means(sample, seed=seed), TWO_SIDED)


def difference(
    first: Sample, second: Sample, *, seed: int, coverage: float = ONE_SIDED
) -> Estimate:
    """Return mean(first) - mean(second); paired when both samples share a stream and clusters.

    Example:
        >>> clusters = ("lin", "bo")
        >>> first = Sample(values=np.array([3.0, 4.0]), clusters=clusters)
        >>> second = Sample(values=np.array([1.0, 2.0]), clusters=clusters)
        >>> difference(first, second, seed=0)
        Estimate(value=2.0, low=2.0, high=2.0)
    """
    value = float(first.values.mean() - second.values.mean())
    return interval(value, means(first, seed=seed) - means(second, seed=seed), coverage)


def recovery(
    subject: Sample,
    anchor: Sample,
    *,
    original: Sample,
    floor: Sample,
    seed: int,
    coverage: float = ONE_SIDED,
) -> Estimate:
    """Return how much of the original's knowledge is there: 0 = gold, 1 = original.

    `max(0, (m_u - m_a) / (m_o - m_g))`, a ratio of means, with numerator and denominator
    resampled together (Fieller type). With `floor` = `anchor` it is the residual r = 1 - s of the
    erasure scorecard; with `subject` and `anchor` taken under an attack it is the excess recovery
    rho of that attack.

    Raises:
        ValueError: The original holds no more than the floor, so the ratio means nothing; callers
            test that first.

    Example:
        >>> known = Sample(values=np.array([1.0, 1.0]), clusters=("lin", "bo"))
        >>> half = Sample(values=np.array([0.5, 0.5]), clusters=("lin", "bo"))
        >>> none = Sample(values=np.array([0.0, 0.0]), clusters=("lin", "bo"))
        >>> recovery(half, none, original=known, floor=none, seed=0).value
        0.5
    """
    gap = float(original.values.mean() - floor.values.mean())
    if gap <= 0:
        raise ValueError("the original holds no more than its anchor: no recovery can be computed")
    excess = float(subject.values.mean() - anchor.values.mean())
    gaps = means(original, seed=seed) - means(floor, seed=seed)
    excesses = means(subject, seed=seed) - means(anchor, seed=seed)
    # A resample without a gap says nothing about the ratio; the smallest usable gap keeps its sign.
    ratios = np.maximum(0.0, excesses / np.maximum(gaps, 1e-3 * gap))
    return interval(max(0.0, excess / gap), ratios, coverage)


def clopper_pearson(events: float, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return exact one-sided lower and upper bounds of a rate, each at `confidence`.

    Clopper and Pearson (1934): quantiles of beta distributions. No event in 20 records: the rate is
    below 13.9 %. Events may count in part (one of two golds states the fact): that scatters less
    than whole events do, so the bounds hold. `scipy.stats.binomtest` takes whole events only.

    Raises:
        ValueError: n is not positive or events is outside 0..n.

    Example:
        >>> low, high = clopper_pearson(0, 20)
        >>> low, round(high, 3)
        (0.0, 0.139)
    """
    if n < 1 or not 0 <= events <= n:
        raise ValueError(f"{events} events in {n} records is not a rate")
    from scipy.special import betaincinv

    tail = 1 - confidence
    low = 0.0 if events == 0 else float(betaincinv(events, n - events + 1, tail))
    high = 1.0 if events == n else float(betaincinv(events + 1, n - events, 1 - tail))
    return low, high


def binomial_tolerance(n: int, rate: float, *, confidence: float = 0.95) -> int:
    """Return the smallest count c with P(X <= c) >= confidence for X binomial(n, rate).

    Example:
        >>> binomial_tolerance(20, 0.05)
        3
    """
    from scipy.special import bdtr

    return next(count for count in range(n + 1) if float(bdtr(count, n, rate)) >= confidence)


def excess_rate(subject: Sample, anchor: Sample, *, seed: int) -> Estimate:
    """Return mean(subject) - mean(anchor) of 0/1 outcomes with one-sided 95 % bounds.

    The bootstrap knows nothing about events that did not happen, so exact binomial bounds take
    over where they are the wider ones. When no paired record is worse under the anchor, the
    difference is itself a rate of k in n; when none is worse under the subject, the upper bound is
    that of zero events in n. When records change both ways, the bounds of both rates are combined
    (`_both_ways`), and one more event of the subject never lowers the upper bound below that of
    zero events. Measurements that are no outcomes change on every record: there the bootstrap has
    seen what can happen, and stands alone.

    Example:
        >>> clusters = tuple(f"person {number}" for number in range(20))
        >>> none = Sample(values=np.zeros(20), clusters=clusters)
        >>> found = excess_rate(none, none, seed=0)
        >>> found.value, round(found.high, 3)
        (0.0, 0.139)
    """
    estimate = difference(subject, anchor, seed=seed)
    n = len(subject.values)
    if subject.stream != anchor.stream:  # unpaired: the anchor's rate only shifts the bounds
        events = round(float(subject.values.sum()))
        low, high = clopper_pearson(events, n)
        shift = float(anchor.values.mean())
        return Estimate(
            estimate.value, min(estimate.low, low - shift), max(estimate.high, high - shift)
        )
    change = subject.values - anchor.values
    none = clopper_pearson(0, n)[1]  # upper bound of a rate without any event
    if not np.any(change > 0):
        return estimate._replace(high=none)
    if not set(np.unique(subject.values)) <= {0.0, 1.0}:
        return estimate
    up, down = float(change.clip(min=0).sum()), float((-change).clip(min=0).sum())
    low, high = _both_ways(up, down, n) if down else clopper_pearson(up, n)
    return estimate._replace(low=min(estimate.low, low), high=max(estimate.high, high, none))


def fact_recovery(
    subject: Sample, anchor: Sample, *, original: Sample, floor: Sample, seed: int
) -> Estimate:
    """Return `recovery` of facts that are stated or not, with bounds that hold for few of them.

    The bootstrap of few events is too narrow: the exact bounds of the numerator (`excess_rate`)
    take over where they are the wider ones.

    Raises:
        ValueError: As `recovery`.

    Example:
        >>> clusters = tuple(f"person {number}" for number in range(20))
        >>> none, known = (Sample(values=np.full(20, x), clusters=clusters) for x in (0.0, 1.0))
        >>> round(fact_recovery(none, none, original=known, floor=none, seed=0).high, 3)
        0.139
    """
    ratio = recovery(subject, anchor, original=original, floor=floor, seed=seed)
    gap = float(original.values.mean() - floor.values.mean())
    excess = excess_rate(subject, anchor, seed=seed)
    return Estimate(
        ratio.value,
        max(0.0, min(ratio.low, excess.low / gap)),
        max(ratio.high, excess.high / gap),
    )


def _both_ways(up: float, down: float, n: int) -> tuple[float, float]:
    """Return bounds of the difference of two rates of n from the exact bounds of each.

    Both rates are unlikely to lie at their far ends at once, so the distances to the ends add up
    like standard deviations (MOVER, Zou and Donner 2008): upper = d + sqrt((U_up - up)^2 +
    (down - L_down)^2), and the mirror of it.
    """
    (low_up, high_up), (low_down, high_down) = clopper_pearson(up, n), clopper_pearson(down, n)
    rise, fall = up / n, down / n
    return (
        rise - fall - math.hypot(rise - low_up, high_down - fall),
        rise - fall + math.hypot(high_up - rise, fall - low_down),
    )


def auc(members: Array, others: Array) -> float:
    """Return P(member scores higher than other), ties half (Mann-Whitney).

    Args:
        members: Scores of records in the forget set, shape (members,); higher = member.
        others: Scores of records never seen, shape (others,).

    Raises:
        ValueError: One side is empty.

    Example:
        >>> auc(np.array([3.0, 2.0]), np.array([1.0, 2.0]))
        0.875
    """
    if not len(members) or not len(others):
        raise ValueError("an AUC needs scores on both sides")
    from scipy.stats import mannwhitneyu

    # The statistic is the same for every method; this one does not count all orders for a p-value.
    found = cast("Any", mannwhitneyu(members, others, method="asymptotic"))
    return float(found.statistic) / (len(members) * len(others))


def auc_draws(members: Sample, others: Sample, *, seed: int) -> Array:
    """Return the AUC in each resample, stratified: members and others are drawn separately.

    Shape (2000,). The same records give the same resamples for every model, so the difference of
    two models' draws is the paired bootstrap of their difference in AUC.

    Example:
        >>> members = Sample(values=np.array([3.0, 4.0]), clusters=("lin", "bo"))
        >>> others = Sample(values=np.array([1.0, 2.0]), clusters=("ada", "eve"), stream=1)
        >>> auc_draws(members, others, seed=0).shape
        (2000,)
    """
    weight_m = resample(members.clusters, seed=seed, stream=members.stream)
    weight_o = resample(others.clusters, seed=seed, stream=others.stream)
    # [2000, members] @ [members, others]: the weighted wins of every resample.
    wins = ((weight_m @ _wins(members.values, others.values)) * weight_o).sum(axis=1)
    return wins / (weight_m.sum(axis=1) * weight_o.sum(axis=1))


def _wins(members: Array, others: Array) -> Array:
    gap = members[:, None] - others[None, :]
    return np.where(gap > 0, 1.0, np.where(gap == 0, 0.5, 0.0))


def auc_interval(
    members: Sample, others: Sample, *, seed: int, coverage: float = TWO_SIDED
) -> Estimate:
    """Return the AUC with its stratified cluster-bootstrap interval.

    Example:
        >>> members = Sample(values=np.array([3.0, 4.0]), clusters=("lin", "bo"))
        >>> others = Sample(values=np.array([1.0, 2.0]), clusters=("ada", "eve"), stream=1)
        >>> auc_interval(members, others, seed=0)
        Estimate(value=1.0, low=1.0, high=1.0)
    """
    value = auc(members.values, others.values)
    return interval(value, auc_draws(members, others, seed=seed), coverage)


def judge(low: float, high: float, margin: float) -> Status:
    """Decide a non-inferiority test by its one-sided bounds.

    Pass when `high` <= margin, fail when `low` > margin, else inconclusive.

    Example:
        >>> judge(-0.02, 0.04, margin=0.05), judge(0.06, 0.2, margin=0.05)
        (<Status.PASS: 'pass'>, <Status.FAIL: 'fail'>)
    """
    if high <= margin:
        return Status.PASS
    return Status.FAIL if low > margin else Status.INCONCLUSIVE


def zero_events_needed(margin: float, *, confidence: float = 0.95) -> int:
    """Return how many records without any event prove a rate below `margin`: 59 for 5 %.

    Example:
        >>> zero_events_needed(0.05)
        59
    """
    return math.ceil(math.log(1 - confidence) / math.log(1 - margin))


MOST_NEEDED = 100
"""Times the records that there are, beyond which to ask for more says nothing."""


def records_needed(estimate: Estimate, margin: float, n: int) -> int | None:
    """Return about how many more records settle an interval that straddles the margin.

    Widths shrink with the root of n: `n * (width / room)^2 - n`, where width is the distance of
    the value from the bound that is on the wrong side and room its distance from the margin.
    None when the value lies on the margin, or so near that it takes over `MOST_NEEDED` times n.

    Example:
        >>> records_needed(Estimate(0.0, -0.2, 0.2), margin=0.1, n=50)
        150
    """
    room = abs(margin - estimate.value)
    below = estimate.value <= margin
    width = estimate.high - estimate.value if below else estimate.value - estimate.low
    if room < 1e-9 or (width / room) ** 2 > MOST_NEEDED:
        return None
    return max(0, math.ceil(n * (width / room) ** 2) - n)


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


_EXACT = 200_000
"""Choices up to which all are counted; beyond, `_DRAWN` of them are drawn."""


def permutation_test(values: Sequence[float], controls: Sequence[float]) -> float:
    """Return the exact one-sided p-value that values are no higher than control values.

    Where all are alike, any choice of as many of them is as likely to be the tested ones. p is the
    share of choices with at least the sum of `values`. The smallest p of 2 values among 60 controls
    is 1 in 1,891.

    Raises:
        ValueError: One side is empty.

    Example:
        >>> round(permutation_test([5.0, 6.0], [1.0, 2.0, 3.0]), 3)
        0.1
    """
    if not values or not controls:
        raise ValueError("a permutation test needs values on both sides")
    pool = np.array([*values, *controls], dtype=np.float64)
    size, least = len(values), float(np.sum(values)) - 1e-9
    if math.comb(len(pool), size) <= _EXACT:
        return float(np.mean(pool[_choices(len(pool), size)].sum(axis=1) >= least))
    draws = np.random.default_rng(0).random((_DRAWN, len(pool))).argpartition(size, axis=1)
    sums = pool[draws[:, :size]].sum(axis=1)
    return float((1 + np.sum(sums >= least)) / (1 + _DRAWN))


@lru_cache(maxsize=16)
def _choices(count: int, size: int) -> NDArray[np.int64]:
    """Return every choice of `size` places among `count`, [choices, size]."""
    return np.array(list(combinations(range(count), size)), dtype=np.int64)


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm's step-down rule, in the order given.

    The chance that any true null hypothesis has one at or below a level is at most that level.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    found, highest = [0.0] * len(ps), 0.0
    for place, index in enumerate(sorted(range(len(ps)), key=lambda each: ps[each])):
        highest = max(highest, min(1.0, (len(ps) - place) * ps[index]))
        found[index] = highest
    return found


def cusum(losses: Sequence[float], *, slack: float) -> list[float]:
    """Return Page's cumulative sum after each loss: `S_t = max(0, S_(t-1) + x_t - slack)`.

    Losses below the slack, and gains, bring it back to zero; a steady excess adds up.

    Example:
        >>> cusum([1.0, 0.0, 3.0], slack=0.5)
        [0.5, 0.0, 2.5]
    """
    found: list[float] = []
    for loss in losses:
        found.append(max(0.0, (found[-1] if found else 0.0) + loss - slack))
    return found
