"""The attack table of the annex: every attack, and what became of it.

An attack that was not made has no numbers: a row refuses them. So it can be shown neither as zero
nor as passed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from expunge.config.catalogue import catalogue
from expunge.evals.plain_words import ATTEMPTS, plain, tried
from expunge.evals.results import Executed, Gate, Results
from expunge.evidence.store import PLAIN
from expunge.ledger.documents.record import RunRecord
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import clopper_pearson
from expunge.reporting.examples import Count, ExampleAttempt, count
from expunge.reporting.wording import STATUS_WORDS, worst

AttackClass = Literal[
    "membership", "attribute", "exfiltration", "regurgitation", "inversion", "reconstruction"
]

CLASSES: Mapping[AttackClass, tuple[str, str]] = {
    "membership": ("55(i)", "membership inference: can it be told that the data was trained on?"),
    "attribute": ("55(i)", "attribute inference: can an attribute be guessed from others?"),
    "exfiltration": ("55(ii)", "exfiltration: can the data be drawn out by tricks?"),
    "regurgitation": ("55(iii)", "regurgitation: does the model repeat what it was trained on?"),
    "inversion": ("55(iv)", "inversion: can the data be read from inside the model?"),
    "reconstruction": ("55(v)", "reconstruction: can the data be brought back by a change of it?"),
}
"""Class of attacks to its place in EDPB Opinion 28/2024, and what it means."""

MEMBERSHIP = "membership inference"
"""Name of the row that the axis of privacy fills; it is no attack of the catalogue."""

_CLASS: Mapping[str, AttackClass] = {
    **dict.fromkeys((PLAIN, "extraction", "near-verbatim", "sampling", "cloze"), "regurgitation"),
    **dict.fromkeys(("prefill-affirm", "prefill-10", "prefill-25", "prefill-50"), "regurgitation"),
    **dict.fromkeys(("inverse", "multiple-choice", "multi-hop", "probe"), "attribute"),
    **dict.fromkeys(
        ("lens", "early-exit", "patching", "ablation", "set-difference", "inverse-greedy"),
        "inversion",
    ),
    **dict.fromkeys(("soft-prompt", "embedding"), "inversion"),
    **dict.fromkeys(
        ("unplug", "interpolation", "merge", "pruning", "noise", "fp32", "bf16", "fp16"),
        "reconstruction",
    ),
    **dict.fromkeys(
        ("relearn", "relearn-related", "relearn-syntax", "retain-only"), "reconstruction"
    ),
    **dict.fromkeys(
        ("int8", "int4", "nf4", "q8_0", "q4_0", "torchao-int8", "torchao-int4"), "reconstruction"
    ),
    **dict.fromkeys(("bitsandbytes-int8", "bitsandbytes-nf4"), "reconstruction"),
}
"""Attack to its class; every other one asks with tricks. The assignment is that of expunge."""

_RAN = (Status.PASS, Status.FAIL, Status.INCONCLUSIVE, Status.SCAR)
_WHY_NOT = "not part of this run"


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackRow:
    """What became of one attack.

    Example:
        >>> AttackRow(attack="lens", group="inversion", status=Executed.NOT_RUN, judged="passed")
        Traceback (most recent call last):
            ...
        ValueError: lens was not executed, and has no numbers
    """

    attack: str
    group: AttackClass
    status: Executed
    reason: str = ""
    """Why it was not executed, or why it was not judged."""
    facts: int | None = None
    """On how many facts; None where nobody counted them."""
    after: Count | None = None
    """What came back of the judged model."""
    gold: Count | None = None
    """What retrained reference models said, who never saw the data."""
    judged: str = ""
    """The status of its gates in words."""

    def __post_init__(self) -> None:
        numbers = (self.facts, self.after, self.gold, self.judged or None)
        if self.status is not Executed.EXECUTED and any(each is not None for each in numbers):
            raise ValueError(f"{self.attack} was not executed, and has no numbers")

    @property
    def bound(self) -> float | None:
        """The share of such facts that is not exceeded, at 95 % confidence."""
        if self.after is None or not self.after.facts:
            return None
        return clopper_pearson(self.after.returned, self.after.facts)[1]


def attack_table(record: RunRecord) -> tuple[AttackRow, ...]:
    """Return a row for every attack that this version knows or the run names, class by class.

    Args:
        record: The run.
    """
    known = {each.attack: each for each in record.results.attacks}
    seen = {one.attack for fact in record.ranked or () for one in fact.after}
    scores = record.results.scores
    scored = {s.attack for s in scores if s.role == "unlearned" and s.value is not None}
    names = dict.fromkeys((*known, *sorted(seen), *catalogue().attacks))
    rows = [_membership(record.results)]
    for name in names:
        told = known.get(name)
        group = _CLASS.get(name, "exfiltration")
        if told is None and name not in seen | scored:
            rows.append(
                AttackRow(attack=name, group=group, status=Executed.NOT_RUN, reason=_WHY_NOT)
            )
        elif told is not None and told.status is not Executed.EXECUTED:
            reason = record.masked(plain(told.reason))
            rows.append(AttackRow(attack=name, group=group, status=told.status, reason=reason))
        else:
            rows.append(_executed(record, name, group, told.facts if told else None))
    order = [*CLASSES]
    return tuple(
        sorted(rows, key=lambda row: (order.index(row.group), [*Executed].index(row.status)))
    )


def row_words(row: AttackRow) -> tuple[str, ...]:
    """Return a row as the annex prints it: attack, status, facts, came back, reference, judged."""
    name = ATTEMPTS.get(row.attack, row.attack)
    if row.status is not Executed.EXECUTED:
        dash = "\N{EM DASH}"
        return (
            name,
            row.status.value.upper(),
            dash,
            dash,
            dash,
            row.reason or "no reason recorded",
        )
    facts = "not counted" if row.facts is None else str(row.facts)
    after = "not counted" if row.after is None else f"{row.after.returned} of {row.after.facts}"
    gold = "not counted" if row.gold is None else f"{row.gold.returned} of {row.gold.facts}"
    judged = row.judged or "no judgement"
    return (
        name,
        row.status.value,
        facts,
        after,
        gold,
        f"{judged}: {row.reason}" if row.reason else judged,
    )


def _executed(record: RunRecord, name: str, group: AttackClass, facts: int | None) -> AttackRow:
    gates = tuple(gate for gate in record.results.gates if tried(gate) == name)
    if name == PLAIN:
        gates = tuple(g for g in record.results.gates if g.name == "key-fact leak")
    judged, reason = _judged(record, gates)
    ranked = record.ranked or ()
    return AttackRow(
        attack=name,
        group=group,
        status=Executed.EXECUTED,
        reason=reason,
        facts=facts or None,
        after=count([_under(name, fact.after) for fact in ranked]),
        gold=count([_under(name, fact.gold) for fact in ranked]),
        judged=judged,
    )


def _judged(record: RunRecord, gates: tuple[Gate, ...]) -> tuple[str, str]:
    """Return the status of the weakest gate in words, and why there is none."""
    gate = worst(tuple(gate for gate in gates if gate.status in _RAN))
    if gate is not None:
        return STATUS_WORDS[gate.status], ""
    reasons = dict.fromkeys(plain(gate.reason) for gate in gates if gate.reason)
    return "", record.masked(next(iter(reasons), ""))


def _under(name: str, tries: tuple[ExampleAttempt, ...]) -> tuple[ExampleAttempt, ...]:
    return tuple(one for one in tries if one.attack == name)


def _membership(results: Results) -> AttackRow:
    """Return the row of membership inference, which the axis of privacy tests."""
    own = tuple(gate for gate in results.gates if gate.axis is Axis.PRIVACY)
    gate = worst(tuple(gate for gate in own if gate.status in _RAN))
    if gate is None:
        reasons = dict.fromkeys(plain(each.reason) for each in own if each.reason)
        reason = next(iter(reasons), _WHY_NOT)
        return AttackRow(
            attack=MEMBERSHIP, group="membership", status=Executed.NOT_RUN, reason=reason
        )
    return AttackRow(
        attack=MEMBERSHIP,
        group="membership",
        status=Executed.EXECUTED,
        facts=gate.n,
        judged=STATUS_WORDS[gate.status],
    )
