"""Baseline checks: a gold is tested before it anchors a comparison.

A gold is a model that was trained the same way and never saw the forget set. One that is not, or
that went wrong, would excuse what it shares with the judged model: a base model that knows nothing
of the retain set excuses any loss there, and one that holds the facts excuses every leak. So each
gold must

- not be the judged model itself, by the digest of its weights;
- not hold the forget set: it must not state and predict facts of it as records that it never saw
  are not, and it must lie measurably below the original;
- keep what the original keeps of the retain set, the neighbours and general text.

Who fails is refused for the axes that it would have anchored, by name. Where all golds hold the
data, nothing is left to judge by, and the audit is invalid.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from expunge.evals.axes.utility import GENERAL, general_gate
from expunge.evals.comparison import Comparison
from expunge.evals.damage import COLLAPSE, damage, knowledge
from expunge.evals.paired import LIKELIHOOD_OF, UNSEEN, kept_records
from expunge.evidence.store import ORIGINAL, UNLEARNED
from expunge.metrics.base import KEY_FACT
from expunge.metrics.outcomes import Axis
from expunge.metrics.statistics import binomial_tolerance, excess_rate

ERASURE = (Axis.FORGETTING, Axis.PRIVACY, Axis.ROBUSTNESS)
DAMAGE = (Axis.UTILITY, Axis.LOCALITY)

_STRICT = 0.01
"""Level at which a record of one gold counts as held against the other golds."""


class Refusal(NamedTuple):
    """Why a gold does not anchor some axes."""

    role: str
    axes: tuple[Axis, ...]
    reason: str
    """Says what is wrong with the gold; begins with its role."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Anchors:
    """Which golds may anchor which axes."""

    golds: tuple[str, ...]
    refusals: tuple[Refusal, ...]
    twins: tuple[str, ...]
    """Roles whose weights are those of the judged model."""

    def of(self, axis: Axis) -> tuple[str, ...]:
        """Return the golds that may anchor an axis."""
        refused = {each.role for each in self.refusals if axis in each.axes}
        return tuple(role for role in self.golds if role not in refused)

    @property
    def knowing(self) -> tuple[Refusal, ...]:
        """Refusals of golds that hold the forget set."""
        return tuple(each for each in self.refusals if each.axes == ERASURE)


def check_anchors(case: Comparison, models: Mapping[str, str]) -> Anchors:
    """Test every gold.

    Args:
        case: The golds, the original and the judged model; all golds are taken as given.
        models: Role to digest of its weights, where it is known.
    """
    own = models.get(UNLEARNED)
    twins = tuple(r for r in (ORIGINAL, *case.golds) if own is not None and models.get(r) == own)
    found = [
        Refusal(role, (*ERASURE, *DAMAGE), f"{role} is the judged model itself, byte for byte")
        for role in twins
        if role != ORIGINAL
    ]
    rest = tuple(role for role in case.golds if role not in twins)
    for role in rest:
        alone = replace(case, golds=(role,))
        if reason := _holds(alone, others=tuple(each for each in rest if each != role)):
            found.append(Refusal(role, ERASURE, f"{role} {reason}"))
        for axis, lost in _lost(alone).items():
            found.append(Refusal(role, (axis,), f"{role} {lost}"))
    return Anchors(golds=case.golds, refusals=tuple(found), twins=twins)


def _holds(alone: Comparison, *, others: tuple[str, ...]) -> str:
    """Return how a gold holds the forget set; an empty string when it does not."""
    if reason := _states(alone):
        return reason
    (role,) = alone.golds
    if others:
        found = kept_records(replace(alone, subject=role, golds=others), level=_STRICT)
        if isinstance(found, str):
            return ""
        count = int(found.kept.sum())
        return f"holds {count} of {len(found.records)} records of the forget set" if count else ""
    return _as_original(alone)


def _states(alone: Comparison) -> str:
    """Count the facts that a gold states and predicts as it predicts no record it never saw."""
    (role,) = alone.golds
    said = alone.column(KEY_FACT, role, "forget")
    likely = alone.column(LIKELIHOOD_OF, role, "forget")
    unseen = [x for split in UNSEEN for x in alone.column(LIKELIHOOD_OF, role, split).values()]
    if not said or not likely or len(unseen) < 2:
        return ""
    bar = float(np.quantile(unseen, 0.95, method="weibull"))
    count = sum(1 for name, x in said.items() if x > 0 and likely.get(name, bar) > bar)
    if count <= binomial_tolerance(len(said), 0.05, confidence=0.99):
        return ""
    return f"states {count} of {len(said)} facts of the forget set, and predicts them as learnt"


def _as_original(alone: Comparison) -> str:
    """Tell whether a single gold knows the forget set as well as an original that knows it.

    That the original knows it must show without gold: it lies measurably above what the original
    says of records that nobody saw, by more than half of which the gold lies above its own, too.
    """
    (role,) = alone.golds

    def above(model: str) -> tuple[float, float] | None:
        inside = list(alone.column(LIKELIHOOD_OF, model, "forget").values())
        outside = [
            x for split in UNSEEN for x in alone.column(LIKELIHOOD_OF, model, split).values()
        ]
        if min(len(inside), len(outside)) < 2:
            return None
        error = np.hypot(
            np.std(inside, ddof=1) / np.sqrt(len(inside)),
            np.std(outside, ddof=1) / np.sqrt(len(outside)),
        )
        return float(np.mean(inside) - np.mean(outside)), float(error)

    known, own = above(ORIGINAL), above(role)
    if known is None or own is None or known[0] <= 3 * known[1]:
        return ""
    if own[0] > known[0] / 2 and own[0] > 3 * own[1]:
        return "knows the forget set nearly as well as the original"
    return ""


def _lost(alone: Comparison) -> dict[Axis, str]:
    """Return what a gold lost that the original keeps, by the axis that it would have anchored."""
    (role,) = alone.golds
    judged = replace(alone, subject=role, golds=())
    found: dict[Axis, str] = {}
    for axis, split, policy in (
        (Axis.UTILITY, "retain", alone.policy.retain),
        (Axis.LOCALITY, "neighbours", alone.policy.neighbours),
    ):
        for measure in knowledge(judged, split):
            loss = damage(judged, measure, split)
            if loss is None or axis in found:
                continue
            fall = excess_rate(loss.subject, loss.reference, seed=alone.seed)
            if fall.value > COLLAPSE and fall.low > policy:
                found[axis] = (
                    f"keeps {fall.value:.0%} less of the {split} set than the original "
                    f"({measure.metric.id})"
                )
    gate = general_gate(judged, GENERAL)
    if gate.low is not None and gate.low > COLLAPSE and Axis.UTILITY not in found:
        found[Axis.UTILITY] = f"reads general text {gate.value:.0%} worse than the original"
    return found
