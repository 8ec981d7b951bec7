"""Preservation: is the judged model worse than models trained the same way are?

Shared by utility and locality. The reference is chosen once, by the mean over records: the worse
of the original and the middle gold. Choosing it anew in each resample would favour the judged
model. Of two golds the better one is the middle, so one gold that went wrong never sets the
reference.

Models that differ in nothing but their seed differ in what they keep, too. With two golds or more
the margin is max(policy, 2 SD of the golds), but never more than what counts as a collapse: golds
that differ by more say nothing about damage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from expunge.evals.comparison import CONTROL_STREAM, Comparison
from expunge.evals.evidence_table import Column, common
from expunge.evals.gates import interval_gate, missing
from expunge.evals.results import Gate
from expunge.evidence.store import ORIGINAL
from expunge.metrics.base import EXTRACTION_STRENGTH, KEY_FACT, PROBABILITY, RecordMetric
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import (
    TWO_SIDED,
    Estimate,
    Sample,
    difference,
    excess_rate,
    means,
    zero_events_needed,
)

COLLAPSE = 0.15
"""Rise of a failure rate that fails at once, however wide the interval and however golds differ."""


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
    spread: float = 0.0
    """Standard deviation of the golds' mean badness; 0 with fewer than two golds."""

    @property
    def n(self) -> int:
        """Number of records."""
        return len(self.subject.values)

    @property
    def new(self) -> int:
        """Records that are worse than under the reference."""
        return int((self.subject.values > self.reference.values).sum())


def middle(levels: Sequence[float]) -> int:
    """Return the place of the middle level, of an even number the lower of the two middle ones.

    Raises:
        ValueError: There is no level.
    """
    if not levels:
        raise ValueError("there is no middle of nothing")
    return sorted(range(len(levels)), key=levels.__getitem__)[(len(levels) - 1) // 2]


def spread(levels: Sequence[float]) -> float:
    """Return the standard deviation of the golds' levels; 0 with fewer than two."""
    return float(np.std(levels, ddof=1)) if len(levels) > 1 else 0.0


def widened(policy: float, sd: float, *, most: float = COLLAPSE) -> float:
    """Return the margin where golds differ: max(policy, min(most, 2 sd)).

    Args:
        policy: The margin of the request.
        sd: Standard deviation of the golds, on the scale of the margin.
        most: The widest margin that golds can make.
    """
    return max(policy, min(most, 2 * sd))


def told(reason: str, policy: float, margin: float) -> str:
    """Add to the reason of a gate that its margin is that of the golds, where it is."""
    if margin <= policy:
        return reason
    return f"{reason}; golds differ, so the margin is {margin:.1%}, not {policy:.1%}"


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

    roles = dict.fromkeys((ORIGINAL, *case.golds, *case.noise))
    columns = {role: column for role in roles if (column := bad(role))}
    subject = bad(case.subject)
    if not subject or not any(role == ORIGINAL or role in case.golds for role in columns):
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
        spread=spread([levels[role] for role in case.noise if role in levels]),
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


def knowledge(case: Comparison, split: str) -> Measure:
    """Return how a set of records that should be known is measured.

    Key facts where at least half of the records name them. Else the probability of the answer as
    far as it lies above what the original gives to records that it never saw,
    (p - p_unseen) / (1 - p_unseen): of whole answers it is far steadier than extraction strength,
    which one token at the end can take away: between two seeds of TOFU on SmolLM2-135M the interval
    of 60 records is a tenth as wide. Else, where no unseen records were scored or the original
    finds these as likely, extraction strength.
    """
    named = case.column(KEY_FACT, case.subject, split)
    known = case.column(PROBABILITY, ORIGINAL, split)
    if named and 2 * len(named) >= len(known):
        return Measure(KEY_FACT)
    for other in UNSEEN:
        unseen = case.column(PROBABILITY, ORIGINAL, other)
        if not known or not unseen:
            continue
        floor = case.table.sample(unseen, other, stream=CONTROL_STREAM)
        gap = difference(case.table.sample(known, split), floor, seed=case.seed, coverage=TWO_SIDED)
        if gap.low > 0:
            return Measure(PROBABILITY, float(floor.values.mean()))
    return Measure(EXTRACTION_STRENGTH)


def rate_gate(
    case: Comparison, axis: Axis, name: str, found: Damage, *, policy: float, alarm: bool = False
) -> Gate:
    """Decide on the rise of a failure rate over the reference, by its one-sided upper bound.

    Few records (below 59 for a policy of 5 %, below 99 for 3 %) cannot certify a rise below the
    margin even when nothing happened. There the rule is: pass without any new failure, and when no
    more fail in all than under the reference (some records change both ways between any two
    models), or than golds differ by; the exact bound of what was seen stands in the reason. With
    `alarm` a rise above 15 points fails whatever the interval says.
    """
    margin = widened(policy, found.spread)
    reason = told(words(found), policy, margin)
    excess = excess_rate(found.subject, found.reference, seed=case.seed)
    gate = interval_gate(axis, name, excess, margin=margin, n=found.n, reason=reason)
    if alarm and excess.value > COLLAPSE:
        return replace(
            gate, status=Status.FAIL, needed=None, reason=f"{gate.reason}; collapse alarm"
        )
    if gate.status is not Status.INCONCLUSIVE:
        return gate
    clean = found.new == 0 or excess.value <= widened(0.0, found.spread)
    if found.n < zero_events_needed(policy) and clean:
        small = f"{gate.reason}; too few records to bound the rate below {excess.high:.1%}"
        return replace(gate, status=Status.PASS, needed=None, reason=small)
    if found.new == 0:
        return replace(gate, needed=max(1, zero_events_needed(margin) - found.n))
    return gate


def words(found: Damage) -> str:
    """Say how many records are worse than under the reference."""
    return f"{found.new} of {found.n} records worse than under the {found.reference_role}"


def relative_loss(found: Damage, *, seed: int) -> Estimate | None:
    """Return (m_ref - m_u) / m_ref of right answers with one-sided 95 % bounds.

    Numerator and denominator are resampled together; exact bounds of the numerator take over where
    the bootstrap is too narrow. None when the reference gets nothing right.
    """
    right = float(1 - found.reference.values.mean())
    if right <= 0:
        return None
    excess = excess_rate(found.subject, found.reference, seed=seed)
    lost = means(found.subject, seed=seed) - means(found.reference, seed=seed)
    held = np.maximum(1 - means(found.reference, seed=seed), 1e-3 * right)
    low, high = (float(x) for x in np.quantile(lost / held, [0.05, 0.95]))
    return Estimate(
        excess.value / right, min(low, excess.low / right), max(high, excess.high / right)
    )


def not_measured(axis: Axis, name: str, split: str, margin: float) -> Gate:
    """Return the gate of a set that was not given or not measured."""
    reason = f"no {split} records were measured on both the model and the original"
    return missing(axis, name, margin=margin, reason=reason)
