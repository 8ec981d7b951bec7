"""The evidence of attacks: one file per attack, model, set of records and half of the facts.

A file is whole or absent. Its first row says with which parameters and which seed it was made and
what it cost; the others are attempts. An interrupted battery goes on with what is missing, and
evidence of another budget is made anew.

What is recorded of an attack, and how its evidence is read back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from expunge.attacks.attempt import Attempt
from expunge.attacks.base import Attack, made_with
from expunge.evidence.attack_record import Access, Recorded
from expunge.evidence.store import EvidenceStore

SCHEMA = "expunge.attempts/2"
_DEFAULTS = {field.name: field.default for field in fields(Attempt)}


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackCost:
    """What an attack took on one model."""

    tokens: int = 0
    """Read and written by the model, forward passes only."""
    steps: int = 0
    """Optimiser steps."""
    seconds: float = 0.0
    """By the clock on the wall."""
    cpu: float = 0.0
    """Seconds of processor time, all threads together."""

    def __add__(self, other: "AttackCost") -> "AttackCost":
        """Return the sum."""
        return AttackCost(
            tokens=self.tokens + other.tokens,
            steps=self.steps + other.steps,
            seconds=self.seconds + other.seconds,
            cpu=self.cpu + other.cpu,
        )


FREE = AttackCost()


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackUnit:
    """Names one file."""

    attack: str
    role: str
    """`unlearned`, `original`, `gold-0`, ..."""
    split: str
    """`forget` or `control`."""
    fold: int = 0
    """Which half was tested; 0 too where nothing is split."""

    @property
    def filename(self) -> str:
        """`attacks/attack.role.split.fold.jsonl`; none of the parts holds a point."""
        return f"attacks/{self.attack}.{self.role}.{self.split}.{self.fold}.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackOutcome:
    """What one attack brought out of one model."""

    attempts: tuple[Attempt, ...] = ()
    missing: str = ""
    """Why the attack could not be made; empty when it was."""
    applies: bool = True
    """False where it could not be made because the model or the facts give it nothing to do."""
    injected: tuple[str, ...] = ()
    """Facts that were not tested because the other half states them."""
    cost: AttackCost = FREE
    weights: str = ""
    """Digest of the model that was attacked; empty of what was put together from several."""


NOTHING = AttackOutcome()


class AttackStore:
    """The folder `attacks` in the evidence of a run, sealed where that is sealed."""

    def __init__(self, evidence: EvidenceStore) -> None:
        self._evidence = evidence

    def read(self, unit: AttackUnit, made: str) -> AttackOutcome | None:
        """Return what is there, if it is marked so (`protocol.made_with`)."""
        if not self._evidence.holds(unit.filename):
            return None
        head, *attempts = self._evidence.read_rows(unit.filename)
        if head["schema"] != SCHEMA or head["made"] != made:
            return None
        return AttackOutcome(
            attempts=tuple(_attempt(each) for each in attempts),
            missing=head["missing"],
            applies=head.get("applies", True),
            injected=tuple(head["injected"]),
            cost=AttackCost(**head["cost"]),
            weights=head["weights"],
        )

    def write(self, unit: AttackUnit, outcome: AttackOutcome, made: str) -> None:
        """Write one file, whole or not at all."""
        head = {
            "schema": SCHEMA,
            "made": made,
            "missing": outcome.missing,
            "applies": outcome.applies,
            "injected": list(outcome.injected),
            "cost": asdict(outcome.cost),
            "weights": outcome.weights,
        }
        self._evidence.write_rows(unit.filename, [head, *_rows(outcome.attempts)])


def _rows(attempts: Sequence[Attempt]) -> list[dict[str, object]]:
    return [
        {key: value for key, value in asdict(each).items() if value != _DEFAULTS[key]}
        for each in attempts
    ]


def _attempt(row: dict[str, Any]) -> Attempt:
    lists: dict[str, Any] = {k: tuple(v) for k, v in row.items() if isinstance(v, list)}
    return Attempt(**{**row, **lists})


_HOLDS: Mapping[Access, str] = {
    "T1": "queries",
    "T2": "a fine-tuning service",
    "T3": "the weights",
}


def recorded(attack: Attack, *, seed: int) -> Recorded:
    """Return what is recorded of an attack with this seed."""
    return Recorded(
        name=attack.name,
        family=attack.meta.family,
        access=attack.meta.access,
        learns=attack.meta.learns,
        union=attack.meta.union,
        own_scale=attack.meta.own_scale,
        made=made_with(attack, seed=seed),
    )


def read_fold(
    store: AttackStore, attack: Recorded, role: str, split: str, fold: int
) -> AttackOutcome | None:
    """Return what an attack brought out on one half of the facts; None if it was not made."""
    unit = AttackUnit(attack=attack.name, role=role, split=split, fold=fold)
    return store.read(unit, attack.made)


def read_outcome(
    store: AttackStore, attack: Recorded, role: str, split: str, *, access: Access
) -> AttackOutcome:
    """Return what an attack brought out of a model, both halves together; empty if nothing.

    Args:
        store: The evidence.
        attack: The attack.
        role: `unlearned`, `original`, `gold-0`, ...
        split: `forget` or `control`.
        access: What the attacker had; an attack that takes more was not made.
    """
    if attack.access > access:
        takes, has = _HOLDS[attack.access], _HOLDS[access]
        return AttackOutcome(
            missing=f"it takes {takes} ({attack.access}), and the attacker has {has} "
            f"({access}); --access {attack.access} where more is at hand"
        )
    found = [
        outcome
        for fold in range(attack.folds)
        if (outcome := read_fold(store, attack, role, split, fold)) is not None
    ]
    reasons = [each.missing for each in found]
    return AttackOutcome(
        attempts=tuple(attempt for each in found for attempt in each.attempts),
        # One half that could be attacked is an attack.
        missing=reasons[0] if reasons and all(reasons) else "",
        applies=any(each.applies for each in found) or not found,
        injected=tuple(name for each in found for name in each.injected),
        cost=sum((each.cost for each in found), FREE),
    )
