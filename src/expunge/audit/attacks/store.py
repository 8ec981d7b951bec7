"""The evidence of attacks: one file per attack, model, set of records and half of the facts.

A file is whole or absent, and says with which knobs and which seed it was made: an interrupted
battery goes on with what is missing, and evidence of another budget is made anew.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from expunge.audit.attacks.attempt import Attempt
from expunge.files import read_json, sha256_json, write_json

SCHEMA = "expunge.attempts/1"
_DEFAULTS = {field.name: field.default for field in fields(Attempt)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What an attack took on one model."""

    tokens: int = 0
    """Read and written by the model, forward passes only."""
    steps: int = 0
    """Optimiser steps."""
    seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        """Return the sum."""
        return Cost(
            tokens=self.tokens + other.tokens,
            steps=self.steps + other.steps,
            seconds=self.seconds + other.seconds,
        )


FREE = Cost()


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackUnit:
    """Names one file."""

    attack: str
    role: str
    """`judged`, `original`, `gold-0`, ..."""
    split: str
    """`forget` or `control`."""
    fold: int = 0
    """Which half was tested; 0 too where nothing is split."""

    @property
    def filename(self) -> str:
        """`attack.role.split.fold.json`; none of the parts holds a point."""
        return f"{self.attack}.{self.role}.{self.split}.{self.fold}.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one attack brought out of one model."""

    attempts: tuple[Attempt, ...] = ()
    missing: str = ""
    """Why the attack could not be made; empty when it was."""
    injected: tuple[str, ...] = ()
    """Facts that were not tested because the other half states them."""
    cost: Cost = FREE


NOTHING = Outcome()


class AttackStore:
    """The folder `attacks` beside the evidence of an audit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, unit: AttackUnit, knobs: dict[str, object], seed: int) -> Outcome | None:
        """Return what is there, if it was made with these knobs and this seed."""
        path = self.folder / unit.filename
        if not path.is_file():
            return None
        row = read_json(path)
        if row["schema"] != SCHEMA or row["made"] != _made(knobs, seed):
            return None
        return Outcome(
            attempts=tuple(_attempt(each) for each in row["attempts"]),
            missing=row["missing"],
            injected=tuple(row["injected"]),
            cost=Cost(**row["cost"]),
        )

    def write(
        self, unit: AttackUnit, outcome: Outcome, knobs: dict[str, object], seed: int
    ) -> None:
        """Write one file, whole or not at all."""
        write_json(
            self.folder / unit.filename,
            {
                "schema": SCHEMA,
                "made": _made(knobs, seed),
                "missing": outcome.missing,
                "injected": list(outcome.injected),
                "cost": asdict(outcome.cost),
                "attempts": _rows(outcome.attempts),
            },
        )


def _made(knobs: dict[str, object], seed: int) -> str:
    shown = {name: repr(value) for name, value in knobs.items()}
    return sha256_json({"knobs": shown, "seed": seed})[:16]


def _rows(attempts: Sequence[Attempt]) -> list[dict[str, object]]:
    return [
        {key: value for key, value in asdict(each).items() if value != _DEFAULTS[key]}
        for each in attempts
    ]


def _attempt(row: dict[str, Any]) -> Attempt:
    lists: dict[str, Any] = {k: tuple(v) for k, v in row.items() if isinstance(v, list)}
    return Attempt(**{**row, **lists})
