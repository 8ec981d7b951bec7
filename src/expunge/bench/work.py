"""Work: one cell, in a process of its own: forget, audit, ask the probes, write the row.

    python -m expunge.bench.work MATRIX CELL

A process that is killed leaves no row; the next one goes on from its checkpoints and evidence. What
fails for a reason of its own (a method that cannot run, memory that runs out) is a row, too.
"""

import os
import platform
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch

from expunge.allocator import keep_freed_memory
from expunge.audit.results import Score
from expunge.bench.heard import Column
from expunge.bench.hearing import hear
from expunge.bench.hurdle import Hurdle, Pruned
from expunge.bench.lending import keep, lend
from expunge.bench.protocol import Protocol, read_protocol
from expunge.bench.row import Cell, Cost, Machine, Row, write_row
from expunge.bench.rows import cell_folder, read_cell, rows_of
from expunge.console import Console
from expunge.data.encode import Encoder
from expunge.errors import ExpungeError
from expunge.files import read_json
from expunge.forget import Outcome, audit, forget
from expunge.machine import peak_gib
from expunge.model.load import load
from expunge.prepare import prepare, source_of
from expunge.resolve import to_toml
from expunge.settings import Settings

PACKAGES = ("expunge", "torch", "transformers", "numpy")
LONGEST = 4096
"""Tokens of a probe's record, where the model reads as many; passages are split."""
STOPS = ("disk-full", "run-locked", "interrupted")
"""Errors that are no property of the cell: they end the matrix and leave no row."""


def work(matrix: Path, cell: Cell) -> Row:
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
    # Not before: a run takes no folder that already holds something.
    hurdle = Hurdle(
        rows_of(matrix) if protocol.prunes else [],
        begun=lambda: lend(matrix / "shared", folder / "run" / "evidence"),
    )
    try:
        settings = protocol.of(cell)
        shared = {
            "attack_store": settings.attack_store or str(matrix / "shared" / "attacks"),
            "reference_store": settings.reference_store or str(matrix / "shared" / "references"),
        }
        settings = settings.model_copy(update={"out": str(folder / "run"), **shared})
        row = _done(matrix, protocol, cell, settings, began, Console(hurdle))
        row = replace(row, proxies=hurdle.proxies)
    except Pruned as pruned:
        row = failed(protocol, cell, str(pruned), began=began)
        row = replace(row, status="pruned", proxies=hurdle.proxies)
    except ExpungeError as error:
        if error.code in STOPS:
            raise
        row = failed(protocol, cell, f"{error.code}: {error.what}; {error.why}", began=began)
    except Exception as error:  # a mistake in one cell must not end the others
        traceback.print_exc()
        text = " ".join(str(error).split())[:300]
        row = failed(protocol, cell, f"{type(error).__name__}: {text}", began=began)
    write_row(folder, row)
    _shed(folder / "run")
    return row


def failed(protocol: Protocol, cell: Cell, why: str, *, began: float) -> Row:
    """Return the row of a cell that could not be finished."""
    return Row(
        cell=cell,
        suite=suite_name(protocol),
        status="failed",
        why=why,
        cost=Cost(seconds=round(time.monotonic() - began, 1)),
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
    )


def _done(
    matrix: Path,
    protocol: Protocol,
    cell: Cell,
    settings: Settings,
    began: float,
    console: Console,
) -> Row:
    run = cell_folder(matrix, cell) / "run"
    shared = matrix / "shared"
    judged = {"original": settings.model, "method": str(run)}.get(cell.kind)
    if judged is None:
        judged = protocol.golds[int(cell.name.removeprefix("gold-"))]
    outcome = _outcome(cell, settings, judged, run, shared, console)
    numbers, columns, notes = _heard(protocol, settings, judged, run, console)
    facts = _facts(run)
    source = source_of(settings)
    return Row(
        cell=cell,
        suite=suite_name(protocol),
        status="done",
        ruling="" if outcome is None else outcome.results.verdict.ruling.value,
        gates=() if outcome is None else outcome.results.gates,
        numbers=tuple(numbers),
        columns=columns,
        notes=notes,
        cost=Cost(
            seconds=round(time.monotonic() - began, 1),
            train_seconds=round(facts[0], 1),
            steps=int(facts[1]),
            stopped=facts[2],
            peak_gib=round(peak_gib(source.device), 2),
        ),
        machine=machine(source.device.type),
        models=_digests(run),
        settings=to_toml(settings),
    )


def _outcome(
    cell: Cell, settings: Settings, judged: str, run: Path, shared: Path, console: Console
) -> Outcome | None:
    """Forget, or audit a reference; None for a gold that has nothing to be held against."""
    if cell.kind == "gold":  # held against the other golds, whose names are then other ones
        anchored = settings.request.gold or settings.request.control
        return audit(settings, model=judged, console=console) if anchored else None
    if cell.kind == "method":
        outcome = forget(settings, console=console)
    else:
        outcome = audit(settings, model=judged, console=console)
    keep(run / "evidence", shared)
    return outcome


def _heard(
    protocol: Protocol, settings: Settings, judged: str, run: Path, console: Console
) -> tuple[list[Score], dict[str, Column], tuple[str, ...]]:
    """Ask the probes of all suites."""
    suites = protocol.suites()
    if not suites:
        return [], {}, ()
    prepared = prepare(settings)
    network = load(judged, prepared.source).network
    # Solved examples and beginnings of articles are longer than what one trains on.
    context = int(prepared.config.get_text_config().max_position_embeddings)
    longest = min(context, LONGEST)
    encoder = Encoder(prepared.tokenizer, settings.template, max_length=longest)
    numbers: list[Score] = []
    columns: dict[str, Column] = {}
    for suite in suites:
        heard = hear(
            network,
            encoder,
            suite.probes,
            folder=run.parent / "probes" / suite.name.replace(" ", "-"),
            tokens_per_pass=settings.train.tokens_per_pass,
            console=console,
        )
        numbers += suite.numbers(heard)
        columns |= suite.columns(heard)
    return numbers, columns, tuple(note for suite in suites for note in suite.notes)


def _facts(run: Path) -> tuple[float, float, str]:
    """Return seconds and steps of the training, and why it ended, where there was one."""
    path = run / "facts.json"
    train = read_json(path).get("train") if path.is_file() else None
    if train is None:
        return 0.0, 0.0, ""
    return float(train["seconds"]), float(train["steps"]), str(train["stopped"])


def _digests(run: Path) -> dict[str, str]:
    path = run / "manifest.json"
    found = read_json(path).get("models") if path.is_file() else None
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _shed(run: Path) -> None:
    """Delete the weights: the row's settings make them again, and they would fill the disk."""
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    for path in run.glob("*.safetensors"):
        path.unlink()


def main(words: Sequence[str]) -> int:
    """Run the cell that a matrix has laid out; return the exit code."""
    matrix, name = Path(words[0]), words[1]
    keep_freed_memory()
    try:
        work(matrix, read_cell(matrix / "cells" / name))
    except ExpungeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
