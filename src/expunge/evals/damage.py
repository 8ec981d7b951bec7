"""Preservation: is the judged model worse than models trained the same way are?

Shared by utility and locality. The reference is chosen once, by the mean over records: the worse
of the original and the middle gold. Choosing it anew in each resample would favour the judged
model. Of two golds the better one is the middle, so one gold that went wrong never sets the
reference.

Models that differ in nothing but their seed differ in what they keep, too. The original and the
golds are such models: their spread is the noise. The margin is max(policy, 2 SD), but where 2 SD
lie beyond what counts as a collapse, the references contradict each other: then the margin stays
the policy's, and what lies between the two is unsettled. Noisy golds excuse nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from expunge.evals.comparison import CONTROL_STREAM, Comparison
from expunge.evals.evidence_table import Column, common
from expunge.evals.gates import missing
from expunge.evals.results import Gate
from expunge.evidence.store import ORIGINAL
from expunge.metrics.base import EXTRACTION_STRENGTH, KEY_FACT, PROBABILITY, RecordMetric
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import (
    TWO_SIDED,
    Array,
    Estimate,
    Sample,
    difference,
    excess_rate,
    mcnemar,
    means,
    records_needed,
)

COLLAPSE = 0.15
"""Largest margin that noise can make, and the rise of a failure rate that raises an alarm."""

RISE = 0.05
"""Level of the exact test that finds a rise of failures."""

UNSEEN = ("holdout", "control")
"""Sets that no model was trained on, the better comparison first."""


class Measure(NamedTuple):
    """What counts as bad on a set of records."""

    metric: RecordMetric
    floor: float = 0.0
    """Value of a metric of knowledge at which nothing is known."""

    def bad(self, value: float) -> float:
        """Return how bad a value is: a metric of knowledge is turned round, 0 known, 1 unknown."""
        return 1 - (value - self.floor) / (1 - self.floor) if self.metric.knowledge else value


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """Paired badness of the judged model and of its reference, per record, 1 = failed."""

    subject: Sample
    reference: Sample
    reference_role: str
    noise: float = 0.0
    """Standard deviation of one model's mean badness, among models trained the same way."""

    @property
    def n(self) -> int:
        """Number of records."""
        return len(self.subject.values)

    @property
    def answers(self) -> bool:
        """Whether records are right or wrong, and nothing between."""
        return set(np.unique([self.subject.values, self.reference.values])) <= {0.0, 1.0}

    @property
    def new(self) -> int:
        """Records that are worse than under the reference."""
        return int((self.subject.values > self.reference.values).sum())

    @property
    def mended(self) -> int:
        """Records that are better than under the reference."""
        return int((self.subject.values < self.reference.values).sum())


class Margin(NamedTuple):
    """How much worse a model may be, after noise."""

    passes: float
    """Largest upper bound that passes."""
    fails: float
    """Lower bound beyond which it fails."""


def margin_of(policy: float, noise: float, *, cap: float) -> Margin:
    """Return the margin where models that were trained the same way differ.

    Args:
        policy: The margin of the request.
        noise: Standard deviation of such models, on the scale of the margin.
        cap: Largest margin that noise can make; beyond it nothing is widened, and what lies between
            policy and cap is unsettled.
    """
    wide = 2 * noise
    if wide > cap:
        return Margin(policy, max(policy, cap))
    return Margin(max(policy, wide), max(policy, wide))


class Parts(NamedTuple):
    """Which records of a set are judged, and which stand beside; None: all, and none."""

    judged: frozenset[str] | None
    beside: frozenset[str] | None


ENOUGH = 10
"""Records that training never rehearsed from which on they alone are judged."""


def parts_of(case: Comparison, split: str) -> Parts:
    """Return what of a set decides: the records that training never rehearsed, where it is known.

    A model that rehearsed its exam passes it. The rehearsed part is judged beside, and counts where
    it fails.
    """
    items = case.table.items.get(split, {})
    held = frozenset(name for name, item in items.items() if item.rehearsed is False)
    seen = frozenset(name for name, item in items.items() if item.rehearsed)
    if len(held) < ENOUGH:
        return Parts(None, None)
    return Parts(held, seen or None)


def model_spread(samples: Sequence[Array], *, of: int | None = None) -> float:
    """Return the standard deviation of one model's mean, from models trained the same way.

    Two models' means differ by their model-wide shift and by the scatter of their records; with
    few models the observed difference of means may be small by luck, so the larger of the two is
    taken for each pair. 0 with fewer than two models.

    Args:
        samples: Badness per record of each model, the same records.
        of: Records over which the mean is taken, where these are a part of them; default all.
    """
    found: list[float] = []
    for first, second in combinations(samples, 2):
        change = first - second
        scatter = float(change.var()) / (of or len(change))
        # Of the mean over a part, what its own records add by scattering more is taken off.
        more = float(change.var()) / len(change) - scatter
        found.append(max(float(change.mean()) ** 2 - more, scatter))
    return math.sqrt(float(np.mean(found)) / 2) if found else 0.0


def middle(levels: Sequence[float]) -> int:
    """Return the place of the middle level, of an even number the lower of the two middle ones.

    Raises:
        ValueError: There is no level.
    """
    if not levels:
        raise ValueError("there is no middle of nothing")
    return sorted(range(len(levels)), key=levels.__getitem__)[(len(levels) - 1) // 2]


def told(reason: str, policy: float, margin: float) -> str:
    """Add to the reason of a gate that its margin is that of the noise, where it is."""
    if margin <= policy:
        return reason
    return f"{reason}; models trained alike differ, so the margin is {margin:.1%}, not {policy:.1%}"


def damage(
    case: Comparison, measure: Measure, split: str, *, keep: frozenset[str] | None = None
) -> Damage | None:
    """Return how badly the judged model and its reference do; None when not measured.

    Args:
        case: Who is judged.
        measure: What counts as bad.
        split: Set of records.
        keep: Restrict to these records.
    """

    def bad(role: str) -> Column:
        column = case.column(measure.metric, role, split)
        return {k: measure.bad(v) for k, v in column.items() if keep is None or k in keep}

    columns = {role: column for role in (ORIGINAL, *case.golds) if (column := bad(role))}
    subject = bad(case.subject)
    if not subject or not columns:
        return None
    records = common(subject, *columns.values())
    if not records:
        return None
    samples = {
        role: case.table.sample(column, split, records=records) for role, column in columns.items()
    }
    levels = {role: float(sample.values.mean()) for role, sample in samples.items()}
    worse = reference_role(levels, case.golds)
    return Damage(
        subject=case.table.sample(subject, split, records=records),
        reference=samples[worse],
        reference_role="gold" if worse in case.golds else worse,
        noise=model_spread([samples[role].values for role in samples]),
    )


def reference_role(levels: Mapping[str, float], golds: Sequence[str]) -> str:
    """Return who is the reference: the worse of the original and the middle gold.

    Args:
        levels: Role to how badly it does; without the judged model.
        golds: Roles of the golds, of which some may not have been measured.
    """
    measured = [role for role in golds if role in levels]
    found = [ORIGINAL] if ORIGINAL in levels else []
    if measured:
        found.append(measured[middle([levels[role] for role in measured])])
    return max(found, key=levels.__getitem__)


def knowledge(case: Comparison, split: str) -> tuple[Measure, ...]:
    """Return how a set of records that should be known is measured, the steadiest measure first.

    The first decides. Another fails by itself and never blocks: 24 answers cannot bound a loss that
    their probabilities bound.

    The probability of the answer, as far as it lies above what the original gives to records that
    it never saw, (p - p_unseen) / (1 - p_unseen): it is far steadier than answers are. Beside it
    key facts, where at least half of the records name them. Where neither can be had, because no
    unseen records were scored or the original finds these as likely, extraction strength.
    """
    found: list[Measure] = []
    known = case.column(PROBABILITY, ORIGINAL, split)
    for other in UNSEEN:
        unseen = case.column(PROBABILITY, ORIGINAL, other)
        if not known or not unseen:
            continue
        floor = case.table.sample(unseen, other, stream=CONTROL_STREAM)
        gap = difference(case.table.sample(known, split), floor, seed=case.seed, coverage=TWO_SIDED)
        if gap.low > 0:
            found.append(Measure(PROBABILITY, float(floor.values.mean())))
            break
    named = case.column(KEY_FACT, case.subject, split)
    if named and 2 * len(named) >= len(known):
        found.append(Measure(KEY_FACT))
    return tuple(found) or (Measure(EXTRACTION_STRENGTH),)


def damage_gate(
    axis: Axis,
    name: str,
    found: Damage,
    *,
    policy: float,
    seed: int,
    relative: bool = False,
    alarm: bool = False,
    part: bool = False,
) -> Gate:
    """Decide on the rise of a failure rate, or the fall of a probability, over the reference.

    Pass when the upper bound lies within the margin (see `margin_of`), fail when the lower bound
    lies beyond it. Answers that are right or wrong are too coarse for that when records are few: of
    24 answers two change between any two models. There the gate also passes when no more fail than
    the margin allows and McNemar's exact test finds no rise, and also fails when more fail and the
    test finds one. What single answers cannot bound, the probabilities of the same answers do.

    Args:
        axis: Axis of the gate.
        name: Name of the gate.
        found: Badness of the judged model and of its reference.
        policy: Largest rise that the request allows.
        seed: Of the bootstrap.
        relative: Judge the loss as a share of what the reference gets right.
        alarm: The form of answers: one more odd answer passes, and a rise above 15 points that
            McNemar's test finds fails, whatever the interval says.
        part: See `Gate.part`.
    """
    right = float(1 - found.reference.values.mean()) if relative else 1.0
    if right <= 0:
        reason = "neither the original nor the gold gets any of these records right"
        return missing(axis, name, margin=policy, reason=reason, n=found.n)
    loss = _loss(found, right, seed=seed)
    margin = margin_of(policy, found.noise / right, cap=COLLAPSE)
    p = mcnemar(found.new, found.mended)
    status = _status(found, loss, margin, p, alarm=alarm)
    reason = told(words(found), policy, margin.passes)
    if alarm and loss.value > COLLAPSE and p <= RISE:
        status, reason = Status.FAIL, f"{reason}; collapse alarm"
    if alone := _is_alone(found, status):
        status, reason = Status.INCONCLUSIVE, f"{reason}; one record does not tell how others fare"
    open_ = status is Status.INCONCLUSIVE
    return Gate(
        axis=axis,
        name=name,
        value=loss.value,
        low=None if alone else loss.low,
        high=None if alone else loss.high,
        margin=margin.passes,
        n=found.n,
        status=status,
        reason=reason,
        needed=records_needed(loss, margin.passes, found.n) if open_ and not alone else None,
        policy=policy if margin.passes > policy else None,
        settle=_settle(margin, found.noise / right) if open_ else "",
        part=part,
    )


def _is_alone(found: Damage, status: Status) -> bool:
    """Tell whether one record would decide: the exact lower bound of its one failure is 5 %."""
    return found.n == 1 and (status is Status.FAIL or not found.answers)


def _status(found: Damage, loss: Estimate, margin: Margin, p: float, *, alarm: bool) -> Status:
    """Return the status of a gate by its interval, and of few answers by McNemar's test, too.

    With `alarm` the form of answers is judged, which no probability bounds. The rate of 20 answers
    moves by 5 points, whatever the margin: so one odd answer passes where it is at most `COLLAPSE`
    of them. Retrained models, too, write one odd answer where they know nothing.
    """
    if loss.high <= margin.passes:
        return Status.PASS
    if loss.low > margin.fails:
        return Status.FAIL
    if found.answers:
        if loss.value <= margin.passes and p > RISE:
            return Status.PASS
        if loss.value > margin.fails and p <= RISE:
            return Status.FAIL
        if alarm and found.new - found.mended == 1 and 1 / found.n <= COLLAPSE:
            return Status.PASS
    return Status.INCONCLUSIVE


def _settle(margin: Margin, noise: float) -> str:
    if margin.passes < margin.fails:
        return f"golds that agree: those given differ by more ({2 * noise:.0%}) than can be allowed"
    return "more records of this set"


def words(found: Damage) -> str:
    """Say how many records are worse than under the reference."""
    return f"{found.new} of {found.n} records worse than under the {found.reference_role}"


def _loss(found: Damage, right: float, *, seed: int) -> Estimate:
    """Return the mean loss over the reference as a share of `right`, with one-sided 95 % bounds.

    Answers that are right or wrong: exact bounds take over where the bootstrap is too narrow. As a
    share of what the reference gets right, numerator and denominator are resampled together.
    """
    estimate = (
        excess_rate(found.subject, found.reference, seed=seed)
        if found.answers
        else difference(found.subject, found.reference, seed=seed)
    )
    if right >= 1.0:
        return estimate
    lost = means(found.subject, seed=seed) - means(found.reference, seed=seed)
    held = np.maximum(1 - means(found.reference, seed=seed), 1e-3 * right)
    low, high = (float(x) for x in np.quantile(lost / held, [0.05, 0.95]))
    if not found.answers:
        return Estimate(estimate.value / right, low, high)
    return Estimate(
        estimate.value / right, min(low, estimate.low / right), max(high, estimate.high / right)
    )


def not_measured(axis: Axis, name: str, split: str, margin: float) -> Gate:
    """Return the gate of a set that was not given or not measured."""
    reason = f"no {split} records were measured on both the model and the original"
    return missing(axis, name, margin=margin, reason=reason)
