"""The row: what one run of a matrix gave, and everything needed to repeat it.

Failures are rows, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from expunge.audit.results import Axis, Gate, Score
from expunge.audit.stats import Estimate
from expunge.bench.heard import Column
from expunge.bench.standing import standing
from expunge.errors import InputError
from expunge.files import read_json, sha256_json, write_json

SCHEMA = "expunge.row/1"
FILE = "row.json"

Kind = Literal["original", "gold", "method"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One run of a matrix, before it is done."""

    kind: Kind
    name: str
    """The method with its wrappers (`npo+sam`), `original`, or `gold-0` and so on."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Key paths of the settings tree that differ from the matrix's own, such as `train.lr`."""
    seed: int = 0

    @property
    def place(self) -> int:
        """Of a gold: which of the protocol's it is, from 0."""
        return int(self.name.removeprefix("gold-"))

    @property
    def id(self) -> str:
        """Folder name: method, seed and eight hex digits of all that is special about the run."""
        digest = sha256_json([self.kind, self.name, dict(self.values), self.seed])[:8]
        return f"{self.name.replace(':', '.')}-s{self.seed}-{digest}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What a run took."""

    seconds: float
    """Wall clock, the audit and the probes included."""
    train_seconds: float = 0.0
    steps: int = 0
    stopped: str = ""
    peak_gib: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Where a run took place."""

    device: str
    cpu: str
    """Architecture and number of cores."""
    threads: int
    versions: Mapping[str, str]
    processor: str = ""
    """Model of the CPU; empty where unknown, as are rows of before."""
    gpu: str = ""
    """Model of the GPU, where the run computed on one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One run of a series."""

    name: str
    """Of the fold that it forgot."""
    ruling: str
    """Of its own audit, against the model that it started from."""
    gates: tuple[Gate, ...]
    numbers: tuple[Score, ...]
    """Of the suite, after this run."""
    cost: Cost
    models: Mapping[str, str]
    """Role to digest of the weights."""
    settings: str
    """As TOML; in a sequence its model is the run folder of the step before."""

    def standing(self) -> dict[Axis, Estimate]:
        """Return how the model does on each axis, against the one that the run started from."""
        return standing(self.gates)

    def number(self, metric: str, probe: str) -> Score | None:
        """Return one number of the suite, if it is there."""
        return _found(self.numbers, metric, probe)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """The result of one cell."""

    schema: str = SCHEMA
    cell: Cell
    suite: str
    """Name of the suite and its part; empty for a user's own request."""
    status: Literal["done", "failed", "pruned"]
    why: str = ""
    """What failed or why it was stopped, in one line."""
    killed: bool = False
    """Failed by a signal from outside, such as that of a system short of memory: the next command
    that comes to the cell goes on with it."""
    ruling: str = ""
    gates: tuple[Gate, ...] = ()
    numbers: tuple[Score, ...] = ()
    columns: Mapping[str, Column] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    cost: Cost
    machine: Machine
    models: Mapping[str, str] = field(default_factory=dict)
    """Role to digest of the weights."""
    settings: str = ""
    """The resolved settings as TOML: `expunge forget` runs them again; of a series, its steps'."""
    steps: tuple[Step, ...] = ()
    """The runs of a series, one for each fold. The row itself then tells of the last model."""
    proxies: Mapping[str, float] = field(default_factory=dict)
    """The watchdog's last reading: what training looked like before the audit."""

    def standing(self) -> dict[Axis, Estimate]:
        """Return how the model does on each axis."""
        return standing(self.gates)

    def number(self, metric: str, probe: str) -> Score | None:
        """Return one number of the suite, if it is there."""
        return _found(self.numbers, metric, probe)


def _found(numbers: Sequence[Score], metric: str, probe: str) -> Score | None:
    return next((s for s in numbers if (s.metric, s.split) == (metric, probe)), None)


_adapter = TypeAdapter(Row)


def write_row(folder: Path, row: Row) -> None:
    """Write the row of a cell; from then on the cell is finished."""
    write_json(folder / FILE, _adapter.dump_python(row, mode="json"))


def read_row(folder: Path) -> Row | None:
    """Read the row of a cell; None when it is not finished.

    Raises:
        InputError: The file is of another version, or was changed.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    value = read_json(path)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise _malformed(path, f"its schema is not {SCHEMA!r}")
    try:
        return _adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _malformed(path, f"{where}: {first['msg'].lower()}") from None


def _malformed(path: Path, why: str) -> InputError:
    return InputError(
        "malformed-row",
        what=f"{path} is not a row of this version",
        why=why,
        fix="delete its folder, and the cell is run again",
    )
