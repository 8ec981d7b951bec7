"""Preservation: is the judged model worse than the worse of original and gold?

Shared by utility and locality. The reference is chosen once, by the mean over records: the worse
of the original and the mean gold. Choosing it anew in each resample would favour the judged model.
"""

from dataclasses import dataclass, replace

import numpy as np

from expunge.audit.case import ORIGINAL, Case
from expunge.audit.gates import interval_gate, missing
from expunge.audit.metrics import EXTRACTION_STRENGTH, KEY_FACT, Metric
from expunge.audit.results import Axis, Gate, Status
from expunge.audit.stats import Estimate, Sample, excess_rate, means, zero_events_needed
from expunge.audit.table import Column, common, mean_column

COLLAPSE = 0.15
"""Rise of a failure rate that fails at once, however wide the interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """Paired badness of the judged model and of its reference, per record, 1 = failed."""

    subject: Sample
    reference: Sample
    reference_role: str

    @property
    def n(self) -> int:
        """Number of records."""
        return len(self.subject.values)

    @property
    def new(self) -> int:
        """Records that are worse than under the reference."""
        return int((self.subject.values > self.reference.values).sum())


def damage(
    case: Case, metric: Metric, split: str, *, keep: frozenset[str] | None = None
) -> Damage | None:
    """Return how badly the judged model and its reference do; None when not measured.

    Args:
        case: Who is judged.
        metric: A metric of knowledge is turned round (1 - value), so that more is always worse.
        split: Set of records.
        keep: Restrict to these records.
    """

    def bad(column: Column) -> Column:
        kept = {k: v for k, v in column.items() if keep is None or k in keep}
        return {k: 1 - v for k, v in kept.items()} if metric.knowledge else kept

    subject = bad(case.column(metric, case.subject, split))
    named = {
        ORIGINAL: bad(case.column(metric, ORIGINAL, split)),
        "gold": bad(mean_column(case.gold_columns(metric, split))),
    }
    named = {role: column for role, column in named.items() if column}
    if not subject or not named:
        return None
    records = common(subject, *named.values())
    if not records:
        return None
    samples = {
        role: case.table.sample(column, split, records=records) for role, column in named.items()
    }
    worse = max(samples, key=lambda role: float(samples[role].values.mean()))
    return Damage(
        subject=case.table.sample(subject, split, records=records),
        reference=samples[worse],
        reference_role=worse,
    )


def accuracy_metric(case: Case, split: str) -> Metric:
    """Return the metric of right answers: key facts, or extraction strength where none is named."""
    named = case.column(KEY_FACT, case.subject, split)
    return KEY_FACT if named else EXTRACTION_STRENGTH


def rate_gate(
    case: Case, axis: Axis, name: str, found: Damage, *, margin: float, alarm: bool = False
) -> Gate:
    """Decide on the rise of a failure rate over the reference, by its one-sided upper bound.

    Few records (below 59 for a margin of 5 %, below 99 for 3 %) cannot certify a rise below the
    margin even when nothing happened. There the rule is: pass without any new failure, and without
    more failures in all than the reference has (some records change both ways between any two
    models); the exact bound of what was seen stands in the reason. With `alarm` a rise above 15
    points fails whatever the interval says.
    """
    excess = excess_rate(found.subject, found.reference, seed=case.seed)
    gate = interval_gate(axis, name, excess, margin=margin, n=found.n, reason=_words(found))
    if alarm and excess.value > COLLAPSE:
        return replace(
            gate, status=Status.FAIL, needed=None, reason=f"{gate.reason}; collapse alarm"
        )
    if gate.status is not Status.INCONCLUSIVE:
        return gate
    if found.n < zero_events_needed(margin) and (found.new == 0 or excess.value <= 0):
        small = f"{gate.reason}; too few records to bound the rate below {excess.high:.1%}"
        return replace(gate, status=Status.PASS, needed=None, reason=small)
    if found.new == 0:
        return replace(gate, needed=max(1, zero_events_needed(margin) - found.n))
    return gate


def _words(found: Damage) -> str:
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
