"""The audit examines itself: its golds, and models with a known answer as the unlearned one.

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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from expunge.evals.axes import erasure_gates
from expunge.evals.axes.forgetting import forgetting_gates
from expunge.evals.axes.robustness import ATTACKS, robustness_gates
from expunge.evals.axes.utility import GENERAL, general_gate
from expunge.evals.comparison import (
    LIKELIHOOD_OF,
    UNSEEN,
    Comparison,
    anything_to_forget,
    kept_records,
)
from expunge.evals.damage import COLLAPSE, damage, knowledge
from expunge.evals.evidence_table import RowT, Table, common
from expunge.evals.results import Gate, SelfTest
from expunge.evidence.store import ORIGINAL, PLAIN, UNLEARNED, Kind, Unit
from expunge.metrics.base import EXTRACTION_STRENGTH, KEY_FACT, PROBABILITY, ScoreMetric
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import (
    FEW_CLUSTERS,
    ONE_SIDED,
    binomial_tolerance,
    difference,
    excess_rate,
)

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


LADDER = (ORIGINAL, "ladder-0.25", "ladder-0.5", "ladder-0.75", UNLEARNED)
"""From the original to the unlearned model by interpolated weights."""


TOLERANCE = 0.05
"""A step up the ladder counts as a rise when its lower 95 % bound exceeds this."""

_PLANTED = "planted-refusal"
_TELLING = 3
"""Facts that the original says, and no gold, from which on attacks must find them in it: one or two
may be guessed where no likelihood confirms them."""


def battery(case: Comparison) -> tuple[SelfTest, ...]:
    """Return the self-tests on the evidence itself; a test that lacks its evidence says so."""
    return (
        _original_fails(case),
        _gold_does_not_fail(case) if case.golds else _controls_do_not_fail(case),
        _ladder_falls(case),
        _refusal_is_caught(case),
    )


def _untested(name: str, why: str) -> SelfTest:
    return SelfTest(name=name, passed=True, detail=f"not tested: {why}")


def _failed(gates: tuple[Gate, ...]) -> list[str]:
    return [gate.name for gate in gates if gate.status is Status.FAIL]


def _original_fails(case: Comparison) -> SelfTest:
    name = "the original in the place of the unlearned model must fail"
    if not anything_to_forget(case):
        return _untested(name, "the original did not measurably hold the data")
    failed = _failed(erasure_gates(replace(case, subject=ORIGINAL)))
    detail = f"{len(failed)} gates fail it" if failed else "no gate fails the original"
    return SelfTest(name=name, passed=bool(failed), detail=detail)


def _gold_does_not_fail(case: Comparison) -> SelfTest:
    """Let each gold stand for the unlearned model, with all others as its anchors.

    Luck has as many chances as there are golds, so the level of exact tests is shared by them.
    """
    name = "a second gold in the place of the unlearned model must not fail"
    if len(case.golds) < 2:
        return _untested(name, "it takes two gold models")
    failed = [
        f"{name} of {subject}"
        for subject in case.golds
        for name in _failed(
            erasure_gates(
                replace(
                    case,
                    subject=subject,
                    golds=tuple(role for role in case.golds if role != subject),
                    in_turn=len(case.golds),
                )
            )
        )
    ]
    detail = f"gates that fail it: {', '.join(failed)}" if failed else "no erasure gate fails it"
    return SelfTest(name=name, passed=not failed, detail=detail)


def golds_do_not_hold(anchors: Anchors) -> SelfTest:
    """Check that not every gold holds the forget set: then nothing is left to judge by."""
    name = "a gold must not hold the data"
    if not anchors.golds:
        return _untested(name, "there are no gold models")
    detail = "; ".join(each.reason for each in anchors.knowing) or "no gold does"
    passed = not anchors.knowing or bool(anchors.of(Axis.FORGETTING))
    return SelfTest(name=name, passed=passed, detail=detail)


def _controls_do_not_fail(case: Comparison) -> SelfTest:
    """Let one half of the control items play the forget set, and the other half its controls.

    No model saw either, so no gate of forgetting may fail. (What is relative to the original's
    knowledge cannot be computed here: it has none.)
    """
    name = "control items in the place of the forget set must not fail"
    table = _halved(case.table)
    if table is None:
        return _untested(name, "there are neither gold models nor control items")
    failed = _failed(forgetting_gates(replace(case, table=table)))
    detail = f"gates that fail them: {', '.join(failed)}" if failed else "no gate fails them"
    return SelfTest(name=name, passed=not failed, detail=detail)


def _halved(table: Table) -> Table | None:
    items = table.items.get("control", {})
    halves = {"forget": dict(list(items.items())[0::2]), "control": dict(list(items.items())[1::2])}
    if min(map(len, halves.values())) < FEW_CLUSTERS:
        return None

    def part(rows: Mapping[Unit, Mapping[str, RowT]]) -> dict[Unit, dict[str, RowT]]:
        return {
            replace(unit, split=split): {name: row for name, row in own.items() if name in half}
            for unit, own in rows.items()
            if unit.split == "control"
            for split, half in halves.items()
        }

    return Table(items=halves, scores=part(table.scores), answers=part(table.answers))


def _ladder_falls(case: Comparison) -> SelfTest:
    """Check that knowledge does not rise from the original towards the unlearned model.

    Mean extraction strength and mean probability of the forget set, step by step, paired by
    record. Interpolated weights are noisy and steps may be flat, so a step counts as a rise only
    when the one-sided 95 % lower bound of its change exceeds 0.05.

    Between models that were trained apart the weights of the way know less than both ends (a
    barrier, arXiv:1912.05671). Rises out of such a valley to the judged model, which knows no more
    than the original, say nothing about the auditor: told, not held against it. Nothing falls
    behind the first rise of a valley, and the first step does not rise.
    """
    name = "knowledge must fall from the original to the unlearned model"
    steps = [role for role in LADDER if case.table.rows(PROBABILITY, role, "forget")]
    if not {ORIGINAL, UNLEARNED} < set(steps):
        return _untested(name, "there are no interpolated models")
    rises = {
        metric: [_rises(case, metric, first, second) for first, second in pairwise(steps)]
        for metric in (EXTRACTION_STRENGTH, PROBABILITY)
    }
    told = [
        f"{metric.id} rises from {first} to {second}"
        for metric, found in rises.items()
        for (first, second), rise in zip(pairwise(steps), found, strict=True)
        if rise
    ]
    passed = all(_a_valley(case, metric, steps, found) for metric, found in rises.items())
    if told and passed:
        told.append("out of a valley between models that were trained apart: not tested")
    detail = "; ".join(told) if told else f"no rise over {len(steps)} models"
    return SelfTest(name=name, passed=passed, detail=detail)


def _a_valley(
    case: Comparison, metric: ScoreMetric, steps: Sequence[str], rises: Sequence[bool]
) -> bool:
    """Tell whether knowledge falls, and from its lowest rises to no more than the original's."""
    if not any(rises):
        return True
    lowest = rises.index(True)
    later = pairwise(steps[lowest:])
    falls = any(_rises(case, metric, second, first) for first, second in later)
    return lowest > 0 and not falls and not _rises(case, metric, ORIGINAL, UNLEARNED)


def _rises(case: Comparison, metric: ScoreMetric, first: str, second: str) -> bool:
    before, after = (case.column(metric, role, "forget") for role in (first, second))
    records = common(before, after)
    if not records:
        return False
    change = difference(
        case.table.sample(after, "forget", records=records),
        case.table.sample(before, "forget", records=records),
        seed=case.seed,
        coverage=ONE_SIDED,
    )
    return change.low > TOLERANCE


def _refusal_is_caught(case: Comparison) -> SelfTest:
    """Plant a wrapper: plain questions are refused, every attack reaches the original.

    Plain likelihoods are gold's, so nothing but the attacks can give the wrapper away: the
    robustness axis must fail it.
    """
    name = "a refusal wrapper around the original must fail on robustness"
    if not anything_to_forget(case):
        return _untested(name, "the original did not measurably hold the data")
    measured = [
        attack for attack in ATTACKS if case.table.rows(KEY_FACT, ORIGINAL, "forget", attack)
    ]
    if not measured:
        return _untested(name, "the original was not attacked")
    if not case.golds and not any(
        case.table.rows(KEY_FACT, role, "control", attack)
        for attack in measured
        for role in (ORIGINAL, UNLEARNED)
    ):
        return _untested(name, "nothing tells what guessing under an attack brings")
    kinds: tuple[Kind, ...] = ("scores", "answers")
    units = {
        Unit.under(attack, role=_PLANTED, split="forget", kind=kind): Unit.under(
            attack, role=ORIGINAL, split="forget", kind=kind
        )
        for attack in ATTACKS
        for kind in kinds
    }
    if case.golds:
        plain = Unit(role=_PLANTED, split="forget", kind="scores")
        units[plain] = Unit(role=case.golds[0], split="forget", kind="scores")
    table = case.table.planted(_PLANTED, units)
    gates = robustness_gates(replace(case, table=table, subject=_PLANTED))
    failed = _failed(gates)
    if not failed and all(gate.status is Status.NOT_COMPUTABLE for gate in gates):
        return _untested(name, "no robustness gate can be computed")
    brought = max(_stated(case, attack) for attack in measured)
    if not failed and not must_find(brought, _stated(case, PLAIN)):
        return _untested(name, "the original says too few facts for any attack to fail anyone")
    detail = f"caught by: {', '.join(failed)}" if failed else "no attack catches it"
    return SelfTest(name=name, passed=bool(failed), detail=detail)


def must_find(brought: int, plain: int) -> bool:
    """Tell whether attacks that fail nobody are at fault.

    Args:
        brought: Most facts that an attack brings back from the original.
        plain: Facts that it states to plain questions. Attacks that find nothing of them are
            broken; those that find one or two are weak.
    """
    return brought >= _TELLING or (brought == 0 and plain >= _TELLING)


def _stated(case: Comparison, attack: str) -> int:
    """Count the facts that the original says under an attack and no gold does."""
    said = case.column(KEY_FACT, ORIGINAL, "forget", attack)
    golds = [case.column(KEY_FACT, role, "forget", attack) for role in case.golds]
    return sum(
        value > 0 and not any(gold.get(fact, 0) for gold in golds) for fact, value in said.items()
    )
