"""From the evidence folder to the results: a pure function.

The results list what became of each attack: executed, not run, or not applicable. Not run is never
shown as zero. Every attack that was registered, and every question of the audit itself, is there.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from expunge.attacks.store import AttackStore, read_outcome
from expunge.errors import InputError
from expunge.evals.attack_gates import ScoringRules, asked_of_few, ladder_gates, scored
from expunge.evals.axes import erasure_gates
from expunge.evals.axes.goal import goal_gates
from expunge.evals.axes.locality import locality_gates
from expunge.evals.axes.robustness import ATTACKS
from expunge.evals.axes.utility import utility_gates
from expunge.evals.comparison import NUMBER_FORMATS, Comparison, anything_to_forget, claimed
from expunge.evals.evidence_table import Column, Table
from expunge.evals.gates import axis_status
from expunge.evals.recovery import AttackRecovery
from expunge.evals.results import AttackStatus, Executed, Gate, Results, Score, SelfTest, Verdict
from expunge.evals.scores.core import all_scores, sampled_scores
from expunge.evals.scores.membership import share_as_trained
from expunge.evals.selftest import Anchors, battery, check_anchors, golds_do_not_hold
from expunge.evals.verdict import Tally, decide
from expunge.evidence.context import AuditContext
from expunge.evidence.store import ORIGINAL, PLAIN, UNLEARNED, EvidenceStore, Unit
from expunge.metrics.base import EXTRACTION_STRENGTH, FACT_LEAK, KEY_FACT
from expunge.metrics.outcomes import Axis
from expunge.metrics.statistics import Estimate

SAMPLING = "sampling"
_NOT_SAMPLED = Score(
    metric="leak-at-k",
    role=UNLEARNED,
    split="forget",
    attack=SAMPLING,
    value=None,
    reason="not computable: needs several sampled answers (level standard, or audit.attacks)",
)


def assess(store: EvidenceStore) -> Results:
    """Compute all scores, gates, self-tests and the verdict from stored evidence.

    Deterministic: the seed of the bootstrap is in the context, and no model is needed.

    Raises:
        InputError: The evidence folder lacks the unlearned model or the original.
    """
    context, table = store.context(), Table.read(store)
    gates = _attack_gates(store, context)
    results = judge_table(table, context, further=gates, shown=_sampled(store, context, table))
    return replace(results, attacks=attack_statuses(store, table, context))


def _sampled(store: EvidenceStore, context: AuditContext, table: Table) -> tuple[Score, ...]:
    """Return what repeated sampling brought out of each model, where the level draws samples."""
    drawn = [each for each in context.battery if each.name == SAMPLING]
    if not drawn:
        return (_NOT_SAMPLED,)
    attempts = {
        role: read_outcome(AttackStore(store), drawn[0], role, "forget", access="T3").attempts
        for role in (UNLEARNED, *context.golds)
    }
    return tuple(sampled_scores(table, attempts, seed=context.seed)) or (_NOT_SAMPLED,)


def _attack_gates(store: EvidenceStore, context: AuditContext) -> tuple[Gate, ...]:
    rungs = attack_rungs(store, context)
    if not rungs:
        return ()
    few = asked_of_few(context.battery, seed=context.seed)
    return ladder_gates(rungs, context.policy, few=few)


def attack_rungs(store: EvidenceStore, context: AuditContext) -> tuple[AttackRecovery, ...]:
    """Return the ladder of the attacks beside the audit's own questions; empty without any."""
    if not context.battery:
        return ()
    rules = ScoringRules(
        attacks=context.battery,
        golds=len(context.golds),
        policy=context.policy,
        seed=context.seed,
    )
    return scored(store, rules)


def judge_table(
    table: Table,
    context: AuditContext,
    *,
    further: tuple[Gate, ...] = (),
    shown: tuple[Score, ...] = (),
) -> Results:
    """Compute all scores, gates, self-tests and the verdict from evidence in memory.

    Args:
        table: The evidence of the audit itself.
        context: What was audited, by which rules.
        further: Gates from other evidence.
        shown: Scores from other evidence.

    Raises:
        InputError: The evidence lacks the unlearned model or the original.
    """
    case = case_of(table, context)
    _check(table)
    judgement = judge_case(case, context, further=further)
    return Results(
        verdict=judgement.verdict,
        axes={axis: axis_status(axis, judgement.gates) for axis in Axis},
        gates=judgement.gates,
        scores=(*all_scores(case), *shown),
        self_tests=judgement.self_tests,
        models=dict(context.models),
        precision=context.precision,
    )


class Judgement(NamedTuple):
    """What decides: the verdict and what it follows from."""

    verdict: Verdict
    gates: tuple[Gate, ...]
    self_tests: tuple[SelfTest, ...]


def judge_case(
    case: Comparison, context: AuditContext, *, further: tuple[Gate, ...] = ()
) -> Judgement:
    """Compute gates, self-tests and the verdict of a case, and no score; see `judge_table`."""
    anchors = check_anchors(case, context.models)
    erasure = replace(case, golds=anchors.of(Axis.FORGETTING))
    gates = (*judged_gates(case, context, anchors), *further)
    self_tests = (*battery(erasure), golds_do_not_hold(anchors))
    informative = anything_to_forget(erasure)
    verdict = decide(
        context,
        gates,
        self_tests,
        informative,
        tally=count(erasure),
        anchors=anchors,
        unrehearsed=_unrehearsed(case.table),
    )
    return Judgement(verdict, gates, self_tests)


def judged_gates(case: Comparison, context: AuditContext, anchors: Anchors) -> tuple[Gate, ...]:
    """Return the gates of all five axes and of the goal, each axis by the golds that may anchor it.

    Args:
        case: Who is judged; its golds are replaced axis by axis.
        context: Goal and response.
        anchors: Which golds may anchor which axes.
    """

    def by(axis: Axis) -> Comparison:
        return replace(case, golds=anchors.of(axis))

    return (
        *erasure_gates(by(Axis.FORGETTING)),
        *utility_gates(by(Axis.UTILITY)),
        *locality_gates(by(Axis.LOCALITY)),
        *goal_gates(by(Axis.LOCALITY), context.goal, context.response),
    )


def case_of(table: Table, context: AuditContext, *, subject: str = UNLEARNED) -> Comparison:
    """Return the case of a context: which role is judged against which golds, on which records."""
    case = Comparison(
        table=table,
        subject=subject,
        golds=context.golds,
        policy=context.policy,
        seed=context.seed,
        halves=context.halves,
        routers=context.routers,
    )
    return claimed(case)


def count(case: Comparison) -> Tally:
    """Count facts asked, facts that came back, attempts, and what was known before."""
    own = _attempts(case, case.subject)
    facts = {name for column in own for name in column}
    before = case.column(KEY_FACT, ORIGINAL, "forget")
    return Tally(
        facts=len(facts),
        leaked=len(_stated(own)),
        attempts=sum(len(column) for column in own),
        before=len(_stated([before]) & facts),
        guessable=len(
            {name for role in case.golds for name in _stated(_attempts(case, role))} & facts
        ),
        recited=_mean(case.column(EXTRACTION_STRENGTH, case.subject, "forget")),
        recited_before=_mean(case.column(EXTRACTION_STRENGTH, ORIGINAL, "forget")),
        as_trained=_as_trained(case),
    )


def _as_trained(case: Comparison) -> Estimate | None:
    row = share_as_trained(case)
    if row.value is None or row.low is None or row.high is None:
        return None
    return Estimate(row.value, row.low, row.high)


def _unrehearsed(table: Table) -> frozenset[Axis]:
    """Return the axes of whose records training rehearsed none."""
    splits = {Axis.UTILITY: "retain", Axis.LOCALITY: "neighbours"}
    marks = {
        axis: [item.rehearsed for item in table.items.get(split, {}).values()]
        for axis, split in splits.items()
    }
    return frozenset(
        axis for axis, seen in marks.items() if seen and all(mark is False for mark in seen)
    )


def _attempts(case: Comparison, role: str) -> list[Column]:
    return [case.column(FACT_LEAK, role, "forget", attack) for attack in (PLAIN, *ATTACKS)]


def _stated(columns: list[Column]) -> set[str]:
    return {name for column in columns for name, value in column.items() if value > 0}


def _mean(column: Column) -> float | None:
    return sum(column.values()) / len(column) if column else None


def _check(table: Table) -> None:
    found = {unit.role for unit in (*table.scores, *table.answers) if unit.split == "forget"}
    for role in (ORIGINAL, UNLEARNED):
        if role not in found:
            raise InputError(
                "evidence-incomplete",
                what=f"the evidence folder has nothing of the {role} model on the forget set",
                why="every number compares the unlearned model with the original",
                fix="run the same command again: the audit collects what is missing",
            )


_NATIVE = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def attack_statuses(
    store: EvidenceStore, table: Table, context: AuditContext
) -> tuple[AttackStatus, ...]:
    """Return what became of each attack on the judged model.

    Args:
        store: The evidence.
        table: The part of it that answers the questions of the audit itself.
        context: Which attacks were to be made.
    """
    own = [_asked(table, name) for name in ATTACKS]
    own += [_in_format(table, name, context) for name in NUMBER_FORMATS]
    return (*own, *_battery(store, context))


def _asked(table: Table, name: str) -> AttackStatus:
    unit = Unit.under(name, role=UNLEARNED, split="forget", kind="answers")
    if unit not in table.answers:
        return AttackStatus(attack=name, status=Executed.NOT_RUN, reason="it was not asked")
    count = len(table.answers[unit])
    if not count:
        reason = "no record gives it anything to ask"
        return AttackStatus(attack=name, status=Executed.NOT_APPLICABLE, reason=reason)
    return AttackStatus(attack=name, status=Executed.EXECUTED, facts=count)


def _in_format(table: Table, name: str, context: AuditContext) -> AttackStatus:
    unit = Unit.under(name, role=UNLEARNED, split="forget", kind="scores")
    count = len(table.scores.get(unit, {}))
    if count:
        return AttackStatus(attack=name, status=Executed.EXECUTED, facts=count)
    if _NATIVE.get(context.precision) == name:
        reason = "everything else was measured in this format"
        return AttackStatus(attack=name, status=Executed.NOT_APPLICABLE, reason=reason)
    if name == "fp32" and context.precision in _NATIVE:
        reason = "it holds the weights exactly, so there is nothing to round"
        return AttackStatus(attack=name, status=Executed.NOT_APPLICABLE, reason=reason)
    if context.guard:
        reason = "the weights behind a guard are the original's in every format"
        return AttackStatus(attack=name, status=Executed.NOT_APPLICABLE, reason=reason)
    reason = next((note for note in context.notes if f" in {name}" in note), "it was not scored")
    return AttackStatus(attack=name, status=Executed.NOT_RUN, reason=reason)


def _battery(store: EvidenceStore, context: AuditContext) -> Sequence[AttackStatus]:
    if not context.battery:
        return ()
    from expunge.attacks.store import AttackStore, read_outcome  # loads torch

    found: list[AttackStatus] = []
    for attack in context.battery:
        outcome = read_outcome(AttackStore(store), attack, UNLEARNED, "forget", access="T3")
        if outcome.attempts:
            facts = len({attempt.record for attempt in outcome.attempts})
            status, reason = Executed.EXECUTED, ""
        else:
            facts, reason = 0, outcome.missing or "it left no evidence"
            status = Executed.NOT_RUN if outcome.applies else Executed.NOT_APPLICABLE
        found.append(AttackStatus(attack=attack.name, status=status, reason=reason, facts=facts))
    return found
