"""The evidence of attacks: one file per attack, model, set of records and half of the facts.

A file is whole or absent. Its first row says with which parameters and which seed it was made and
what it cost; the others are attempts. An interrupted battery goes on with what is missing, and
evidence of another budget is made anew.

Outcomes may also be made once for each model, attack and budget, and kept in a folder that many
runs share. The name of such a file holds a digest of everything that the outcome depends on, so
another model, another setting or another version finds nothing and makes its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

from expunge.attacks.base import Attack, Attempt, made_with
from expunge.errors import InputError
from expunge.evidence.context import Access, Recorded
from expunge.evidence.encryption import SHARED, kept_until, locked
from expunge.evidence.store import UNLEARNED, EvidenceStore
from expunge.utils.io import private, sha256_json, write_json

SCHEMA = "expunge.attempts/2"
JUDGED = UNLEARNED
"""The role of the model under attack, whatever was done to it."""

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
        """Return what is there, if it is marked so (`attacks.base.made_with`).

        Raises:
            InputError: It is not what an attack wrote.
        """
        if not self._evidence.holds(unit.filename):
            return None
        rows = self._evidence.read_rows(unit.filename)
        try:
            return _outcome(rows, made)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise InputError(
                "damaged-evidence",
                what=f"{self._evidence.folder / unit.filename} is not what an attack wrote",
                why="a field is missing or of another kind",
                fix="remove the file, and the attack is made again",
            ) from error

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


def _outcome(rows: Sequence[Any], made: str) -> AttackOutcome | None:
    head, *attempts = rows
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


_SCHEMA = "expunge.attack-store/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedAttackCache:
    """What is known from other runs about one model, and where this run leaves what it learns."""

    store: AttackStore
    """The shared folder. Personal data, as all evidence."""
    world: str
    """Digest of all that an outcome depends on beside attack and seed: the weights, the original,
    the records, the format of questions and numbers, the version."""
    seed: int
    keeps: bool = True
    """Whether what this run learns is left for others: not of a model that only this run has."""

    def find(self, attack: Attack, split: str, fold: int) -> AttackOutcome | None:
        """Return what another run brought out of this model by this attack."""
        if _loads_others(attack):
            return None
        return self.store.read(self._unit(attack, split, fold), self._made(attack))

    def keep(self, attack: Attack, split: str, fold: int, outcome: AttackOutcome) -> None:
        """Leave an outcome for other runs; what is missing now may be there then."""
        if self.keeps and not outcome.missing and not _loads_others(attack):
            self.store.write(self._unit(attack, split, fold), outcome, self._made(attack))

    def _made(self, attack: Attack) -> str:
        return made_with(attack, seed=self.seed)

    def _unit(self, attack: Attack, split: str, fold: int) -> AttackUnit:
        role = sha256_json([self.world, attack.name, self._made(attack)])[:16]
        return AttackUnit(attack=attack.name, role=role, split=split, fold=fold)


def _loads_others(attack: Attack) -> bool:
    """Tell whether an attack loads a model by its name, which no digest here stands for."""
    # These load torch, which reading attempts does not need.
    from expunge.attacks.weight_space.interpolation import Merge
    from expunge.attacks.weight_space.remove_adapter import Unplug

    return isinstance(attack, Unplug | Merge)


def shared_store(folder: Path, evidence: EvidenceStore, *, expires: date) -> EvidenceStore:
    """Open the folder that runs share; what one run seals is sealed there, too, and lies apart.

    Args:
        folder: The folder.
        evidence: That of the run.
        expires: Until when the run keeps evidence; the folder is kept for the run that keeps it
            longest.

    Raises:
        InputError: The evidence is sealed, and the operator's key is not there.
    """
    if evidence.sealed and evidence.operator is None:
        raise locked(evidence.folder)
    until = max(expires, kept_until(folder)) if (folder / SHARED).is_file() else expires
    write_json(private(folder) / SHARED, {"schema": _SCHEMA, "expires": str(until)})
    if evidence.operator is None or not evidence.sealed:
        return EvidenceStore(folder / "open")
    store = EvidenceStore(folder / "sealed")
    store.seal(evidence.operator)
    return store
