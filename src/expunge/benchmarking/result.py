"""The row: what one run of a matrix gave, and everything needed to repeat it.

Failures are rows, too. Here stands as well where the cells of a matrix lie on disk, and what a run
left in its folder: facts for the row, and weights that are deleted.

Axis scores are one number in [0, 1] for each axis, computed from the gates of an audit:

    forgetting, robustness   1 - largest residual or excess recovery      1 gold, 0 original
    privacy                  1 - 2 max |AUC - AUC of gold|                1 gold, 0 farthest
    utility, locality        1 - max(loss / margin) / 4                   0.75 exactly at the margin

Gates read validated metrics only, so nothing else decides here. Models rank by their weakest axis,
then by the next weakest; never by a mean. Intervals are those of the gates: one-sided
95 % bounds on each side.
"""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from expunge.benchmarking.probe_outputs import Column
from expunge.config.settings import Settings
from expunge.errors import InputError
from expunge.evals.results import Gate, Score
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import Estimate
from expunge.models.loading import choose_device
from expunge.models.reference import model_folder
from expunge.utils.file_names import CHECKPOINTS, FACTS, MANIFEST
from expunge.utils.io import read_json, sha256_json, write_json
from expunge.utils.system import peak_gib

AxisScores = Mapping[Axis, Estimate]
"""Scores by axis, of the axes that could be computed."""

ERASED = (Axis.FORGETTING, Axis.PRIVACY, Axis.ROBUSTNESS)
KEPT = (Axis.UTILITY, Axis.LOCALITY)
AT_MARGIN = 0.75
"""Where a loss is exactly what the margin allows."""


def axis_scores(gates: Sequence[Gate]) -> dict[Axis, Estimate]:
    """Return the score of a model on every axis that has a computed gate."""
    found: dict[Axis, Estimate] = {}
    for axis in Axis:
        own = [gate for gate in gates if gate.axis is axis]
        if axis is Axis.LOCALITY:
            # A relation of few records cannot be settled by itself: the first gate holds all.
            own = own[:1] + [gate for gate in own[1:] if gate.status is Status.FAIL]
        parts = [part for gate in own if (part := _part(gate)) is not None]
        if parts:
            found[axis] = Estimate(
                min(part.value for part in parts),
                min(part.low for part in parts),
                min(part.high for part in parts),
            )
    return found


def weakest(axis_scores: AxisScores, axes: Sequence[Axis] = tuple(Axis)) -> Estimate | None:
    """Return the lowest of some axes, by value; None when none of them was computed."""
    found = [axis_scores[axis] for axis in axes if axis in axis_scores]
    if not found:
        return None
    return Estimate(
        min(each.value for each in found),
        min(each.low for each in found),
        min(each.high for each in found),
    )


def upwards(axis_scores: AxisScores, axes: Sequence[Axis] = tuple(Axis)) -> list[float]:
    """Return the values of some axes, the weakest first: greater is better, as lists compare."""
    return sorted(axis_scores[axis].value for axis in axes if axis in axis_scores)


def _part(gate: Gate) -> Estimate | None:
    if gate.value is None or gate.low is None or gate.high is None:
        return None
    if gate.axis is Axis.PRIVACY:
        near = 0.0 if gate.low <= 0 <= gate.high else min(abs(gate.low), abs(gate.high))
        far = max(abs(gate.low), abs(gate.high))
        return _falling(1.0, abs(gate.value), near, far)
    if gate.axis in KEPT:
        return _falling(0.25 / gate.margin, gate.value, gate.low, gate.high)
    return _falling(1.0, gate.value, gate.low, gate.high)


def _falling(slope: float, value: float, low: float, high: float) -> Estimate:
    """Return 1 - slope x, clipped to [0, 1]; the interval turns around."""

    def of(x: float) -> float:
        return min(1.0, max(0.0, 1 - slope * x))

    return Estimate(of(value), of(high), of(low))


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
class RunCost:
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
class FoldResult:
    """One run of a series."""

    name: str
    """Of the fold that it forgot."""
    ruling: str
    """Of its own audit, against the model that it started from."""
    gates: tuple[Gate, ...]
    numbers: tuple[Score, ...]
    """Of the suite, after this run."""
    cost: RunCost
    models: Mapping[str, str]
    """Role to digest of the weights."""
    settings: str
    """As TOML; in a sequence its model is the run folder of the step before."""

    def axis_scores(self) -> dict[Axis, Estimate]:
        """Return how the model does on each axis, against the one that the run started from."""
        return axis_scores(self.gates)

    def number(self, metric: str, probe: str) -> Score | None:
        """Return one number of the suite, if it is there."""
        return _found(self.numbers, metric, probe)


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchResult:
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
    cost: RunCost
    machine: Machine
    models: Mapping[str, str] = field(default_factory=dict)
    """Role to digest of the weights."""
    settings: str = ""
    """The resolved settings as TOML: `expunge forget` runs them again; of a series, its steps'."""
    steps: tuple[FoldResult, ...] = ()
    """The runs of a series, one for each fold. The row itself then tells of the last model."""
    proxies: Mapping[str, float] = field(default_factory=dict)
    """The watchdog's last reading: what training looked like before the audit."""

    def axis_scores(self) -> dict[Axis, Estimate]:
        """Return how the model does on each axis."""
        return axis_scores(self.gates)

    def number(self, metric: str, probe: str) -> Score | None:
        """Return one number of the suite, if it is there."""
        return _found(self.numbers, metric, probe)


def _found(numbers: Sequence[Score], metric: str, probe: str) -> Score | None:
    return next((s for s in numbers if (s.metric, s.split) == (metric, probe)), None)


_row_adapter = TypeAdapter(BenchResult)


def write_row(folder: Path, row: BenchResult) -> None:
    """Write the row of a cell; from then on the cell is finished."""
    write_json(folder / FILE, _row_adapter.dump_python(row, mode="json"))


def read_row(folder: Path) -> BenchResult | None:
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
        return _row_adapter.validate_python(value)
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


CELL = "cell.json"
_cell_adapter = TypeAdapter(Cell)


def cell_folder(matrix: Path, cell: Cell) -> Path:
    """Return the folder of a cell."""
    return matrix / "cells" / cell.id


def lay_out(matrix: Path, cell: Cell) -> Path:
    """Make the folder of a cell with the file that says what it is."""
    folder = cell_folder(matrix, cell)
    row = _cell_adapter.dump_python(cell, mode="json")
    # Whatever lies there: the process of the cell runs what this file says.
    if not (folder / CELL).is_file() or read_json(folder / CELL) != row:
        write_json(folder / CELL, row)
    return folder


def read_cell(folder: Path) -> Cell:
    """Read what a cell is."""
    return _cell_adapter.validate_python(read_json(folder / CELL))


def rows_of(matrix: Path) -> list[BenchResult]:
    """Read all rows of a matrix, by name of their cells."""
    return list(_rows(matrix))


def _rows(matrix: Path) -> Iterator[BenchResult]:
    for path in sorted((matrix / "cells").glob(f"*/{FILE}")):
        row = read_row(path.parent)
        if row is not None:
            yield row


def cost_of(run: Path, settings: Settings, began: float) -> RunCost:
    """Return what a run took; its training as the run itself wrote it down.

    Args:
        run: The run folder.
        settings: Its settings.
        began: Monotonic seconds at its beginning.
    """
    path = run / FACTS
    train = read_json(path).get("train") if path.is_file() else None
    train = train or {"seconds": 0.0, "steps": 0, "stopped": ""}
    return RunCost(
        seconds=round(time.monotonic() - began, 1),
        train_seconds=round(float(train["seconds"]), 1),
        steps=int(train["steps"]),
        stopped=str(train["stopped"]),
        peak_gib=round(peak_gib(choose_device(settings.device)), 2),
    )


def digests(run: Path) -> dict[str, str]:
    """Return the digests of the weights that a run was about, by role."""
    path = run / MANIFEST
    found = read_json(path).get("models") if path.is_file() else None
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def delete_weights(run: Path) -> None:
    """Delete the weights: the row's settings make them again, and they would fill the disk."""
    shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)
    for path in model_folder(run).glob("*.safetensors"):
        path.unlink()
