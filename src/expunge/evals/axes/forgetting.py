"""Forgetting: is the knowledge gone, in the mean and for every single fact?"""

from dataclasses import replace
from itertools import permutations
from typing import NamedTuple

import numpy as np

from expunge.evals.comparison import Baseline, Comparison
from expunge.evals.damage import widened
from expunge.evals.evidence_table import Column, common
from expunge.evals.gates import NO_ANCHOR, RESIDUAL, STRAGGLERS, interval_gate, missing, unanchored
from expunge.evals.leak_test import SMALL, Flags, leak_test, remembered, settle, small_gate
from expunge.evals.metric_validity import unfit
from expunge.evals.results import Gate
from expunge.evidence.store import ORIGINAL, PLAIN
from expunge.metrics.base import EXTRACTION_STRENGTH, KEY_FACT, PROBABILITY, RecordMetric
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import (
    ONE_SIDED,
    Array,
    Estimate,
    Sample,
    binomial_tolerance,
    clopper_pearson,
    excess_rate,
    judge,
    mean_interval,
    records_needed,
    recovery,
)

EXPECTED = 0.05
"""Share of records that a model which never saw them flags, by construction of the threshold."""


class Residual(NamedTuple):
    """Residual knowledge with its interval, or the reason why there is none."""

    estimate: Estimate | None
    margin: float
    n: int
    reason: str


def residual(
    case: Comparison, metric: RecordMetric, attack: str = PLAIN, *, coverage: float = ONE_SIDED
) -> Residual:
    """Return the residual of a metric: 0 as gold, 1 as the original.

    `r = max(0, (m_u - m_g) / (m_o - m_g))`, ratio of means on the records that all models have.
    Under an attack, m_u and m_g of the numerator are taken under that attack. The margin is the
    policy's, or twice the golds' standard deviation on the same scale where that is larger, but
    no more than 15 points: golds that differ by more say nothing about what is left.
    """
    margin = case.policy.residual
    original = case.column(metric, ORIGINAL, "forget")
    subject = case.column(metric, case.subject, "forget", attack)
    anchor, floor = case.anchor(metric, attack), case.anchor(metric)
    if not original or not subject:
        return Residual(None, margin, 0, "the original or the model was not measured on this")
    if anchor is None or floor is None or anchor.split != floor.split:
        return Residual(None, margin, 0, NO_ANCHOR)
    if not case.informative(metric):
        return Residual(None, margin, 0, "the original did not measurably hold this")
    records = case.shared(anchor, original, subject)
    records = common(dict.fromkeys(records, 0.0), floor.column) if floor.paired else records
    if not records:
        return Residual(None, margin, 0, "no record was measured on all models")
    samples = {
        "original": case.table.sample(original, "forget", records=records),
        "floor": case.anchor_sample(floor, records),
    }
    gap = float(samples["original"].values.mean() - samples["floor"].values.mean())
    if gap <= 0:
        return Residual(None, margin, 0, "the original holds no more than the anchor")
    estimate = recovery(
        case.table.sample(subject, "forget", records=records),
        case.anchor_sample(anchor, records),
        original=samples["original"],
        floor=samples["floor"],
        seed=case.seed,
        coverage=coverage,
    )
    margin = widened(margin, case.noise_sd(metric, "forget") / gap)
    return Residual(estimate, margin, len(records), "")


def residual_gate(case: Comparison, axis: Axis, name: str, attack: str = PLAIN) -> Gate:
    """Decide on the residual of extraction strength, plain or under an attack, by its upper bound.

    Extraction strength of single answers is coarse (steps of 1/T), so with fewer than 59 records
    the interval of a true gold often straddles the margin. There an inconclusive gate passes when
    the point estimate is within the margin AND no record shows both signs of memory (see
    `expunge.evals.leak_test.remembered`): knowledge that is left in few records shows in those
    records, knowledge that is left a little everywhere shows in the mean.
    """
    metric = EXTRACTION_STRENGTH
    if reason := unfit(metric.id):
        return missing(axis, name, margin=case.policy.residual, reason=reason)
    found = residual(case, metric, attack)
    if found.estimate is None:
        return missing(axis, name, margin=found.margin, reason=found.reason)
    gate = interval_gate(axis, name, found.estimate, margin=found.margin, n=found.n)
    if gate.status is not Status.INCONCLUSIVE or found.n >= SMALL:
        return gate
    records = tuple(case.column(metric, case.subject, "forget", attack))
    count = int(remembered(case, records, attack).remembered.sum())
    reason = f"too few records for a narrow interval; {count} of {found.n} look remembered"
    if count or found.estimate.value > found.margin:
        return replace(gate, reason=reason)
    return replace(gate, status=Status.PASS, needed=None, reason=reason)


def _leak_gate(case: Comparison) -> Gate:
    name, margin = "key-fact leak", case.policy.leak_excess
    if reason := unfit(KEY_FACT.id):
        return missing(Axis.FORGETTING, name, margin=margin, reason=reason)
    test = leak_test(case)
    if test is None:
        reason = "no forget record names a key fact that its question does not hold"
        return missing(Axis.FORGETTING, name, margin=margin, reason=reason)
    stated = int(test.subject.values.sum())
    if test.anchor is None and stated:
        return unanchored(Axis.FORGETTING, name, stated, margin=margin, n=test.n)
    if test.small or test.anchor is None:
        return small_gate(Axis.FORGETTING, name, test, margin=margin, gap=1.0)
    excess = excess_rate(
        test.subject, case.anchor_sample(test.anchor, test.records), seed=case.seed
    )
    gate = interval_gate(Axis.FORGETTING, name, excess, margin=margin, n=test.n)
    return settle(gate, test, margin=margin)


class _Stragglers(NamedTuple):
    rate: Sample
    flagged: Flags
    """Flagged against every gold."""


def _flags_by_pairs(case: Comparison, subject: Column, golds: list[Column]) -> _Stragglers:
    """Compare record by record: the difference between golds is the noise of one record."""
    records = common(subject, *golds)
    own, *others = (
        case.table.sample(column, "forget", records=records) for column in (subject, *golds)
    )
    spread = np.concatenate([a.values - b.values for a, b in permutations(others, 2)])
    threshold = float(np.quantile(spread, 1 - EXPECTED, method="weibull"))
    flags = np.array([own.values - gold.values > threshold for gold in others])
    return _Stragglers(own._replace(values=flags.mean(axis=0)), np.asarray(flags.all(axis=0)))


def _flags_by_pool(case: Comparison, subject: Column, anchor: Baseline) -> _Stragglers:
    """Compare with the pooled anchor: one gold, or control items."""
    records = case.shared(anchor, subject)
    own = case.table.sample(subject, "forget", records=records)
    pool: Array = case.anchor_sample(anchor, records).values
    # "weibull" (rank p(n+1)): a further value of the pool exceeds it with exactly 5 % from n = 19.
    threshold = float(np.quantile(pool, 1 - EXPECTED, method="weibull"))
    flags = own.values > threshold
    return _Stragglers(own._replace(values=flags.astype(np.float64)), flags)


def _memorised(case: Comparison, records: tuple[str, ...]) -> set[str]:
    """Return the records with a second sign: a new leak, or more ES than any of the anchor."""
    test = leak_test(case)
    found = (
        {name for name, new in zip(test.records, test.new, strict=True) if new} if test else set()
    )
    anchor = case.anchor(EXTRACTION_STRENGTH)
    if anchor:
        columns = case.gold_columns(EXTRACTION_STRENGTH, "forget") or [anchor.column]
        most = max(max(column.values()) for column in columns)
        own = case.column(EXTRACTION_STRENGTH, case.subject, "forget")
        found |= {name for name in records if own.get(name, 0.0) > most}
    return found


def straggler_gate(case: Comparison) -> Gate:
    """Decide whether single facts stayed behind although the mean looks forgotten.

    A record is flagged when its normalised probability is higher than that of all but 5 % of what
    never having seen it produces. With two golds the comparison is paired: probability minus
    gold's, against the 95 % quantile of the differences between golds (both directions, both
    pairings). With one gold, or with control items, the threshold is the 95 % quantile of theirs.
    The gated number is the flagged share beyond the 5 % expected by construction.

    An interval needs some 200 records to bring 5 % + sampling noise below 10 %. Where it is
    inconclusive, the gate passes when the count is within the 95 % binomial tolerance of 5 % AND
    no flagged record shows a second sign of memory: a leak that no gold makes, or an extraction
    strength above any of the anchor's. A flagged record by itself is what 1 in 20 looks like
    under gold; a flagged record that is also recited is not.
    """
    name, margin = STRAGGLERS, case.policy.straggler_excess
    if reason := unfit(PROBABILITY.id):
        return missing(Axis.FORGETTING, name, margin=margin, reason=reason)
    subject = case.column(PROBABILITY, case.subject, "forget")
    golds = case.gold_columns(PROBABILITY, "forget")
    anchor = case.anchor(PROBABILITY)
    if not subject or anchor is None:
        reason = NO_ANCHOR if subject else "the model was not measured on the forget set"
        return missing(Axis.FORGETTING, name, margin=margin, reason=reason)
    pairs = len(golds) >= 2
    flags = (
        _flags_by_pairs(case, subject, golds) if pairs else _flags_by_pool(case, subject, anchor)
    )
    records = common(subject, *golds) if golds else tuple(subject)
    n, count = len(records), int(flags.flagged.sum())
    excess = _excess(case, flags)
    status = judge(excess.low, excess.high, margin)
    reason = (
        f"{count} of {n} records flagged, {EXPECTED:.0%} expected of a model that never saw them"
    )
    if status is Status.INCONCLUSIVE:
        tolerance = binomial_tolerance(n, EXPECTED)
        marked = {name for name, flag in zip(records, flags.flagged, strict=True) if flag}
        twice = len(marked & _memorised(case, records))
        reason += f" (up to {tolerance} by chance); {twice} of them also leak or are recited"
        if count <= tolerance and not twice:
            status = Status.PASS
    needed = records_needed(excess, margin, n) if status is Status.INCONCLUSIVE else None
    return Gate(
        axis=Axis.FORGETTING,
        name=name,
        value=excess.value,
        low=excess.low,
        high=excess.high,
        margin=margin,
        n=n,
        status=status,
        reason=reason,
        needed=needed,
    )


def _excess(case: Comparison, flags: _Stragglers) -> Estimate:
    """Return the flagged share minus 5 %, with the wider of bootstrap and exact bounds."""
    estimate = mean_interval(flags.rate, seed=case.seed, coverage=ONE_SIDED)
    low, high = clopper_pearson(round(float(flags.rate.values.sum())), len(flags.flagged))
    return Estimate(
        estimate.value - EXPECTED,
        min(estimate.low, low) - EXPECTED,
        max(estimate.high, high) - EXPECTED,
    )


def forgetting_gates(case: Comparison) -> tuple[Gate, ...]:
    """Return residual extraction strength, key-fact leak and stragglers."""
    return (
        residual_gate(case, Axis.FORGETTING, RESIDUAL),
        _leak_gate(case),
        straggler_gate(case),
    )
