"""A job: one cell, in a process of its own: forget, audit, run the probes, write the row.

    python -m expunge.benchmarking.job MATRIX CELL

A process that is killed writes no row; the next one goes on from its checkpoints and evidence. What
fails for a reason of its own (a method that cannot run, memory that runs out) is a row, too.
"""

import os
import platform
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch

from expunge.benchmarking.evaluate import (
    Evaluation,
    copy_evidence,
    evaluate,
    judged_gold,
    shared_folder,
    store_evidence,
)
from expunge.benchmarking.protocol import Protocol, read_protocol
from expunge.benchmarking.pruning import Pruned, Pruner
from expunge.benchmarking.result import (
    BenchResult,
    Cell,
    FoldResult,
    Machine,
    RunCost,
    cell_folder,
    cost_of,
    delete_weights,
    digests,
    read_cell,
    rows_of,
    write_row,
)
from expunge.benchmarking.sequential import read_steps, run_series
from expunge.benchmarking.suites.base import Series
from expunge.config.resolve import to_toml
from expunge.config.settings import Settings
from expunge.errors import ExpungeError
from expunge.evals.results import Results
from expunge.pipeline.forget import audit, forget
from expunge.preparation.prepare import source_of
from expunge.reporting.schema import read_results
from expunge.utils.console import Console
from expunge.utils.file_names import EVIDENCE
from expunge.utils.system import keep_freed_memory, processor

PACKAGES = ("expunge", "torch", "transformers", "numpy")
STOPS = ("disk-full", "run-locked", "interrupted")
"""Errors that are no property of the cell: they end the matrix and leave no row."""


def run_job(matrix: Path, cell: Cell) -> BenchResult:
    """Run one cell and write its row.

    Args:
        matrix: Folder of the matrix.
        cell: What to run.

    Raises:
        ExpungeError: The machine stands in the way, not the cell; there is no row.
    """
    protocol = read_protocol(matrix)
    folder = cell_folder(matrix, cell)
    began = time.monotonic()
    try:
        row = _tried(matrix, protocol, cell, began)
    except ExpungeError as error:
        if error.code in STOPS:
            raise
        row = failed(protocol, cell, f"{error.code}: {error.what}; {error.why}", began=began)
    except Exception as error:  # a mistake in one cell must not end the others
        traceback.print_exc()
        text = " ".join(str(error).split())[:300]
        row = failed(protocol, cell, f"{type(error).__name__}: {text}", began=began)
    write_row(folder, row)
    for run in (folder / "run", *folder.glob("folds/*/run")):
        delete_weights(run)
    return row


def _tried(matrix: Path, protocol: Protocol, cell: Cell, began: float) -> BenchResult:
    """Run a cell to its end, or until others are clearly ahead of it."""
    settings = protocol.of(cell)
    shared, out = shared_folder(matrix, settings), cell_folder(matrix, cell) / "run"
    stores = {
        "attack_store": settings.attack_store or str(shared / "attacks"),
        "reference_store": settings.reference_store or str(shared / "references"),
    }
    settings = settings.model_copy(update={"out": str(out), **stores})
    pruner = _pruner(matrix, protocol, cell, shared)
    try:
        row = _done(matrix, shared, protocol, cell, settings, began, Console(pruner))
    except Pruned as pruned:
        row = replace(failed(protocol, cell, str(pruned), began=began), status="pruned")
    return replace(row, proxies=pruner.proxies)


def _pruner(matrix: Path, protocol: Protocol, cell: Cell, shared: Path) -> Pruner:
    """Return the pruner of the run, which also copies shared evidence once it has begun."""
    evidence = cell_folder(matrix, cell) / "run" / EVIDENCE
    names = judged_gold(cell.place, len(protocol.golds)) if cell.kind == "gold" else {}
    others = rows_of(matrix) if protocol.prunes else []
    # Not before: a run takes no folder that already holds something.
    return Pruner(others, begun=lambda: copy_evidence(shared, evidence, names=names))


def failed(protocol: Protocol, cell: Cell, why: str, *, began: float) -> BenchResult:
    """Return the row of a cell that could not be finished."""
    return BenchResult(
        cell=cell,
        suite=suite_name(protocol),
        status="failed",
        why=why,
        cost=RunCost(seconds=round(time.monotonic() - began, 1)),
        machine=machine(),
    )


def suite_name(protocol: Protocol) -> str:
    """Return the name of the suite and its part."""
    spec = protocol.suite
    return "" if spec is None else " ".join(filter(None, (spec.name, spec.part)))


def machine(device: str = "") -> Machine:
    """Describe this machine."""
    return Machine(
        device=device,
        cpu=f"{platform.machine()}, {os.cpu_count()} cores",
        threads=torch.get_num_threads(),
        versions={
            **{name: version(name) for name in PACKAGES},
            "python": platform.python_version(),
        },
        processor=processor(),
        gpu=torch.cuda.get_device_name() if device == "cuda" else "",
    )


def _done(
    matrix: Path,
    shared: Path,
    protocol: Protocol,
    cell: Cell,
    settings: Settings,
    began: float,
    console: Console,
) -> BenchResult:
    folder = cell_folder(matrix, cell)
    suites = protocol.suites()
    series = suites[0].series if suites and cell.kind == "method" else None

    def evaluated(settings: Settings, judged: str, place: Path, console: Console) -> Evaluation:
        return evaluate(suites, protocol.harness, settings, judged, folder=place, console=console)

    if series is None:
        judged, place, steps = _judged(protocol, cell, settings), folder / "probes", ()
        results = _results(cell, settings, judged, shared, console)
    else:
        last = run_series(
            series, settings, matrix=matrix, shared=shared, cell=folder, ask=evaluated
        )
        judged, place, steps = str(last), last.parent / "probes", read_steps(series, folder)
        results = _whole(series, settings, last, shared, console)
    found = evaluated(settings, judged, place, console)
    return BenchResult(
        cell=cell,
        suite=suite_name(protocol),
        status="done",
        ruling="" if results is None else results.verdict.ruling.value,
        gates=() if results is None else results.gates,
        numbers=found.numbers,
        columns=found.columns,
        notes=found.notes,
        cost=_cost(folder / "run", steps, settings, began),
        machine=machine(source_of(settings).device.type),
        models=digests(folder / "run"),
        settings=to_toml(settings) if series is None else "",
        steps=steps,
    )


def _judged(protocol: Protocol, cell: Cell, settings: Settings) -> str:
    """Return the reference of the model that a row is about."""
    if cell.kind == "gold":
        return protocol.golds[cell.place]
    return settings.model if cell.kind == "original" else str(settings.out)


def _results(
    cell: Cell, settings: Settings, judged: str, shared: Path, console: Console
) -> Results | None:
    """Forget, or audit a reference; None for a gold that has nothing to be held against."""
    if cell.kind == "gold":  # held against the other golds, whose names are then other ones
        anchored = settings.request.gold or settings.request.control
        if not anchored:
            return None
        return audit(settings, model=judged, gold=True, console=console).results
    if cell.kind == "method":
        results = forget(settings, console=console).results
    else:
        results = audit(settings, model=judged, console=console).results
    store_evidence(Path(str(settings.out)) / EVIDENCE, shared)
    return results


def _whole(
    series: Series, settings: Settings, last: Path, shared: Path, console: Console
) -> Results:
    """Judge a series by its last model: of growing sets, that of the largest, as it was audited."""
    if not series.sequential:
        return read_results(last)
    results = audit(settings, model=str(last), console=console).results
    store_evidence(Path(str(settings.out)) / EVIDENCE, shared)
    return results


def _cost(run: Path, steps: Sequence[FoldResult], settings: Settings, began: float) -> RunCost:
    """Return what a cell took; of a series that was resumed, what its finished runs took counts."""
    each = [step.cost for step in steps] or [cost_of(run, settings, began)]
    return RunCost(
        seconds=max(round(time.monotonic() - began, 1), sum(cost.seconds for cost in each)),
        train_seconds=sum(cost.train_seconds for cost in each),
        steps=sum(cost.steps for cost in each),
        stopped=each[-1].stopped,
        peak_gib=max(cost.peak_gib for cost in each),
    )


def main(words: Sequence[str]) -> int:
    """Run the cell that a matrix has laid out; return the exit code."""
    matrix, name = Path(words[0]), words[1]
    keep_freed_memory()
    try:
        run_job(matrix, read_cell(matrix / "cells" / name))
    except ExpungeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
