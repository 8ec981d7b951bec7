"""The audit examines itself: models with a known answer take the place of the unlearned one."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from expunge.evals.anchor_checks import Anchors
from expunge.evals.axes import erasure_gates
from expunge.evals.axes.forgetting import forgetting_gates
from expunge.evals.axes.robustness import ATTACKS, robustness_gates
from expunge.evals.comparison import Comparison, anything_to_forget
from expunge.evals.evidence_table import RowT, Table, common
from expunge.evals.results import Gate, SelfTest
from expunge.evidence.store import ORIGINAL, PLAIN, UNLEARNED, Kind, Unit
from expunge.metrics.base import EXTRACTION_STRENGTH, KEY_FACT, PROBABILITY, ScoreMetric
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import FEW_CLUSTERS, ONE_SIDED, difference

LADDER = (ORIGINAL, "ladder-0.25", "ladder-0.5", "ladder-0.75", UNLEARNED)
"""From the original to the unlearned model by interpolated weights."""

_ENDS = (ORIGINAL, UNLEARNED)

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
    """Let each gold stand for the unlearned model, with all others as its anchors."""
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
    barrier, arXiv:1912.05671). A last step that rises out of such a valley to the judged model, to
    no more than the original knows, says nothing about the auditor: told, not held against it.
    """
    name = "knowledge must fall from the original to the unlearned model"
    steps = [role for role in LADDER if case.table.rows(PROBABILITY, role, "forget")]
    if not {ORIGINAL, UNLEARNED} < set(steps):
        return _untested(name, "there are no interpolated models")
    found = [
        (metric, first, second)
        for metric in (EXTRACTION_STRENGTH, PROBABILITY)
        for first, second in pairwise(steps)
        if _rises(case, metric, first, second)
    ]
    valleys = [
        rise
        for rise in found
        if rise[2] == UNLEARNED and rise[1] != ORIGINAL and not _rises(case, rise[0], *_ENDS)
    ]
    told = [f"{metric.id} rises from {first} to {second}" for metric, first, second in found]
    if found and len(valleys) == len(found):
        told.append("out of a valley between models that were trained apart: not tested")
    detail = "; ".join(told) if told else f"no rise over {len(steps)} models"
    return SelfTest(name=name, passed=len(valleys) == len(found), detail=detail)


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
    if not failed and max(_stated(case, attack) for attack in (PLAIN, *measured)) < _TELLING:
        return _untested(name, "the original says too few facts for any attack to fail anyone")
    detail = f"caught by: {', '.join(failed)}" if failed else "no attack catches it"
    return SelfTest(name=name, passed=bool(failed), detail=detail)


def _stated(case: Comparison, attack: str) -> int:
    """Count the facts that the original says under an attack and no gold does."""
    said = case.column(KEY_FACT, ORIGINAL, "forget", attack)
    golds = [case.column(KEY_FACT, role, "forget", attack) for role in case.golds]
    return sum(
        value > 0 and not any(gold.get(fact, 0) for gold in golds) for fact, value in said.items()
    )
