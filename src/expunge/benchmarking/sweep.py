"""The matrix: references, then every method with the same number of settings, then more seeds.

One folder per cell, one process per cell. A cell with a row is never run again; a cell that another
process works on is left to it; a killed one goes on where it stopped. When its process alone is
killed, it counts as failed until the next command goes on with it. Shards share nothing but the
folder: each takes every n-th cell. A `Runner` may run cells elsewhere, see `benchmarking.cluster`.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any, NamedTuple
from typing import Protocol as Interface

from expunge.benchmarking.job import failed, run_job
from expunge.benchmarking.leaderboard import best, probe_gates
from expunge.benchmarking.method_spec import parse_method_spec
from expunge.benchmarking.protocol import Protocol
from expunge.benchmarking.result import (
    FILE,
    BenchResult,
    Cell,
    cell_folder,
    lay_out,
    read_row,
    rows_of,
    write_row,
)
from expunge.benchmarking.search_space import (
    MethodParameters,
    chosen_for,
    method_parameters,
    trials,
)
from expunge.errors import Interrupted, ResourceError, UsageError
from expunge.pipeline.run_folder import claim
from expunge.utils.console import Console
from expunge.utils.file_names import LOG
from expunge.utils.io import require_no_special_files

_INTERRUPTED = 130
_RESOURCES = ResourceError.exit_code
_LAST_WORDS = 300


class Shard(NamedTuple):
    """Which part of the cells a process takes."""

    place: int = 0
    """Counted from 0."""
    of: int = 1


class SweepProgress(NamedTuple):
    """What a pass over a matrix has left."""

    rows: int
    failed: int
    waiting: int
    """Cells without a row: other processes have them, or will take them."""
    fruitless: str = ""
    """Why a run of a method failed, where all have run and every one failed; else empty."""


class Runner(Interface):
    """What runs cells, each in a process of its own."""

    def run(
        self, matrix: Path, protocol: Protocol, cells: Iterable[Cell], *, at_once: int | None
    ) -> Iterator[tuple[Cell, BenchResult | None]]:
        """Run cells and yield each with its row as it ends; None: another process has it.

        Args:
            matrix: Folder of the matrix.
            protocol: What all runs share.
            cells: What to run; the next one is asked for when there is room for it.
            at_once: At most how many run at the same time; None: as many as there is room for.
        """
        ...


class InTurn(Runner):
    """Runs cells on this machine, one after the other."""

    def run(
        self, matrix: Path, protocol: Protocol, cells: Iterable[Cell], *, at_once: int | None
    ) -> Iterator[tuple[Cell, BenchResult | None]]:
        """Run cells and yield each with its row."""
        del at_once
        for cell in cells:
            yield cell, run_cell(matrix, protocol, cell)


def parse_shard(text: str) -> Shard:
    """Read `i/n`, counted from 1.

    Raises:
        UsageError: It is not i/n with 1 <= i <= n.
    """
    first, slash, second = text.partition("/")
    if slash and first.isdigit() and second.isdigit() and 1 <= int(first) <= int(second):
        return Shard(int(first) - 1, int(second))
    raise UsageError(
        "bad-shard",
        what=f"--shard {text} is not i/n",
        why="the cells are dealt to n processes, of which this one is the i-th, from 1",
        fix="write for example --shard 1/4 in the first of four processes",
    )


def run_matrix(
    matrix: Path,
    protocol: Protocol,
    *,
    methods: Sequence[str],
    seeds: Sequence[int],
    shard: Shard,
    console: Console,
    runner: Runner | None = None,
) -> SweepProgress:
    """Run every cell of this shard that has no row yet.

    First original and golds; then, with the first seed, the defaults of every method, the second
    setting of every method, and so on; then the chosen settings with the other seeds.

    Args:
        matrix: Folder of the matrix; its protocol is written.
        protocol: What all runs share.
        methods: Names of methods, with wrappers or without: `npo`, `npo+sam`.
        seeds: Seeds of training; the first one is that of the trials.
        shard: Which cells to take.
        console: Where to say how far it is.
        runner: What runs the cells, first the original, then golds, then all others; None: this
            machine, one after the other.

    Raises:
        ExpungeError: A method or wrapper does not exist, the disk is full, or the user stopped it.
    """
    found = method_parameters(protocol.shared)
    tried = {
        name: [
            Cell(kind="method", name=name, values=values, seed=seeds[0])
            # Those of the bare method: what differs between them is the wrapper alone.
            for values in _tried(name, protocol, found)
        ]
        for name in dict.fromkeys(methods)
    }
    # Round by round: a matrix that is stopped early has tried every method about equally often.
    rounds = zip_longest(*tried.values())
    first = references(protocol)
    cells = [*first, *(cell for each in rounds for cell in each if cell is not None)]
    if runner is not None:  # what the original says is then there for the golds, and so on
        run_cells(matrix, protocol, first[:1], console=console, runner=runner)
        run_cells(matrix, protocol, first[1:], console=console, runner=runner)
    run_cells(matrix, protocol, _dealt(cells, shard), console=console, runner=runner)
    again: list[Cell] = []
    there = {row.cell.id: row for row in probe_gates(rows_of(matrix), protocol)}
    for name, own in tried.items():
        whole = [there[cell.id] for cell in own if cell.id in there]
        if len(whole) < len(own):
            console.note(f"{name}: {len(own) - len(whole)} settings are still to be tried")
        elif (chosen := best(whole, protocol=protocol)) is not None:
            again += [
                Cell(kind="method", name=name, values=chosen.cell.values, seed=seed)
                for seed in seeds[1:]
            ]
    # By name and not by place: another shard may not see all of them yet.
    own = [cell for cell in again if int(cell.id[-8:], 16) % shard.of == shard.place]
    run_cells(matrix, protocol, own, console=console, runner=runner)
    return _done(matrix, [*cells, *again])


def _tried(name: str, protocol: Protocol, found: MethodParameters) -> list[dict[str, Any]]:
    if protocol.chosen is not None:
        return [chosen_for(name, protocol.chosen)]
    return trials(parse_method_spec(name).method, protocol.shared, found, count=protocol.trials)


def _done(matrix: Path, cells: Sequence[Cell]) -> SweepProgress:
    """Say what has become of the cells of a command, whichever process has run them."""
    rows = rows_of(matrix)
    there = {row.cell.id for row in rows}
    wanted = {cell.id for cell in cells}
    waiting = len(wanted - there)
    own = [row for row in rows if row.cell.kind == "method" and row.cell.id in wanted]
    failures = [row.why for row in own if row.status == "failed"]
    fruitless = failures[0] if failures and len(failures) == len(own) and not waiting else ""
    return SweepProgress(len(rows), sum(row.status == "failed" for row in rows), waiting, fruitless)


def references(protocol: Protocol) -> list[Cell]:
    """Return the cells of the original and of each gold."""
    golds = [Cell(kind="gold", name=f"gold-{i}") for i in range(len(protocol.golds))]
    return [Cell(kind="original", name="original"), *golds]


def run_cells(
    matrix: Path,
    protocol: Protocol,
    cells: Sequence[Cell],
    *,
    console: Console,
    runner: Runner | None = None,
) -> None:
    """Run cells, but for those that other processes have.

    Raises:
        ExpungeError: The machine stands in the way, or the user stopped it.
    """
    with console.progress("bench", total=len(cells), unit="cells") as bar:
        ran = (runner or InTurn()).run(matrix, protocol, cells, at_once=None)
        for cell, row in ran:
            bar.advance(1, detail=f"{cell.name} {'elsewhere' if row is None else row.status}")
            if row is not None and row.status == "failed":
                again = f"to try it again, delete {cell_folder(matrix, cell)}"
                again = "the next command tries it again" if row.killed else again
                console.warn(f"{cell.id} failed: {row.why}; {again}")


def run_cell(matrix: Path, protocol: Protocol, cell: Cell) -> BenchResult | None:
    """Run one cell in a process of its own, unless it has a row; once, even if that is killed.

    Returns:
        Its row; None when another process works on it.

    Raises:
        ExpungeError: The machine stands in the way, or the user stopped it.
    """

    def run(lock: IO[str]) -> BenchResult:
        folder, began = cell_folder(matrix, cell), time.monotonic()
        # The child holds the claim as well: if this process is killed alone, nobody else begins.
        words = [sys.executable, "-m", "expunge.benchmarking.job", str(matrix), cell.id]
        with (folder / LOG).open("ab") as log:
            code = subprocess.run(
                words, stdout=log, stderr=log, pass_fds=[lock.fileno()], check=False
            ).returncode
        return read_row(folder) or _without_row(folder, protocol, cell, code, began)

    return claimed(matrix, cell, run)


def run_cell_here(matrix: Path, cell: Cell) -> BenchResult | None:
    """Run one cell in this process, which is its own: as `run_cell` otherwise."""
    return claimed(matrix, cell, lambda _: run_job(matrix, cell))


def claimed(matrix: Path, cell: Cell, run: Callable[[IO[str]], BenchResult]) -> BenchResult | None:
    """Return the row of a cell; where it has none yet, claim it and make one.

    Args:
        matrix: Folder of the matrix.
        cell: Which cell.
        run: Makes the row, while the cell is claimed by the lock that it is given.

    Returns:
        The row; None when another process works on it.
    """
    require_no_special_files(cell_folder(matrix, cell))
    folder = lay_out(matrix, cell)
    row = read_row(folder)
    if row is not None and not row.killed:
        return row
    try:
        lock = claim(folder)
    except UsageError:
        return None
    with lock:
        row = read_row(folder)  # another process may have finished it meanwhile
        if row is not None and not row.killed:
            return row
        (folder / FILE).unlink(missing_ok=True)
        return run(lock)


def _without_row(
    folder: Path, protocol: Protocol, cell: Cell, code: int, began: float
) -> BenchResult:
    """Say why a process left no row: it was stopped, or it died."""
    words = (folder / LOG).read_text(encoding="utf-8", errors="replace").strip()
    if code in (_INTERRUPTED, -2):
        raise Interrupted(
            "interrupted",
            what="stopped by you",
            why=f"finished cells keep their rows; {cell.id} goes on where it stopped",
            fix="run the same command again",
        )
    if code == _RESOURCES:
        raise ResourceError(
            "disk-full",
            what=f"no space left while running {cell.id}",
            why="finished cells keep their rows",
            fix="free some space, then run the same command again: it resumes",
        )
    cause = f"killed by signal {-code}, perhaps for memory" if code < 0 else f"exit code {code}"
    row = failed(protocol, cell, f"{cause}: {words[-_LAST_WORDS:]}", began=began)
    row = replace(row, killed=code < 0)
    write_row(folder, row)
    return row


def _dealt(cells: Iterable[Cell], shard: Shard) -> list[Cell]:
    return [cell for place, cell in enumerate(cells) if place % shard.of == shard.place]
