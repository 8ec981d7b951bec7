"""What became of each attack: executed, not run, or not applicable. Not run is never shown as zero.

Every attack that was registered, and every question of the audit itself, is in the list.
"""

from collections.abc import Sequence

from expunge.evals.axes.robustness import ATTACKS
from expunge.evals.evidence_table import Table
from expunge.evals.paired import NUMBER_FORMATS
from expunge.evals.results import AttackStatus, Executed
from expunge.evidence.context import AuditContext
from expunge.evidence.store import UNLEARNED, EvidenceStore, Unit

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
