"""A series: several runs of one method in one cell, one for each fold of the suite.

    growing      every run starts from the original
    sequential   every run starts from the model that the one before left

Each run is judged by the suite's numbers and by an audit of its own. A sequence is judged once more
as a whole: its last model against the original, on everything that was to be forgotten. A killed
series repeats no finished run; the weights of a run go once the next one no longer needs them.
"""

import time
from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter

from expunge.benchmarking.evaluate import GOLDS, SHARED, Evaluation, copy_evidence, store_evidence
from expunge.benchmarking.protocol import set_file
from expunge.benchmarking.pruning import Pruner
from expunge.benchmarking.result import FoldResult, cost_of, delete_weights, digests
from expunge.benchmarking.suites.base import Fold, Series
from expunge.config.resolve import to_toml
from expunge.config.settings import Settings
from expunge.errors import InputError
from expunge.evals.results import Ruling
from expunge.pipeline.forget import forget
from expunge.preparation.prepare import require_weights
from expunge.utils.console import Console
from expunge.utils.file_names import EVIDENCE, MANIFEST
from expunge.utils.io import read_json, write_json

FILE = "step.json"
NOTHING = "nothing-to-forget"
"""Code of the error of a run on what its model does not know."""
_adapter = TypeAdapter(FoldResult)

Ask = Callable[[Settings, str, Path, Console], Evaluation]
"""Evaluates the model of a reference; earlier results are read from the folder."""


def run_series(
    series: Series, settings: Settings, *, matrix: Path, shared: Path, cell: Path, ask: Ask
) -> Path:
    """Run what is not finished; return the folder of the last model.

    A run of a sequence that finds nothing to forget, since the ones before took it along, leaves
    the model as it is.

    Args:
        series: The folds.
        settings: Of a run on all of them together.
        matrix: Folder of the matrix, which holds the folds.
        shared: Folder of what runs share.
        cell: Folder of the cell.
        ask: Evaluates a model on the suite.

    Raises:
        UsageError: The method leaves nothing that a next run could start from.
        InputError: The original does not know the first fold.
    """
    if series.sequential:
        require_weights(settings)
    before: Path | None = None
    for fold in series.folds:
        run = cell / "folds" / fold.name / "run"
        start = before if series.sequential else None
        request = settings.request.model_copy(
            update={
                "forget": (str(set_file(matrix, fold.name)),),
                "id": f"{settings.request.id} {fold.name}",
            }
        )
        model = settings.model if start is None else str(start)
        own = settings.model_copy(update={"request": request, "model": model, "out": str(run)})
        if not (run.parent / FILE).is_file():
            step = _step(fold, own, shared / fold.name, start, ask)
            write_json(run.parent / FILE, _adapter.dump_python(step, mode="json"))
        if (run / MANIFEST).is_file():  # else there was nothing to forget
            if before is not None:
                delete_weights(before)
            before = run
    assert before is not None, "the first run left a model"
    return before


def read_steps(series: Series, cell: Path) -> tuple[FoldResult, ...]:
    """Read what the runs of a finished series gave."""
    paths = [cell / "folds" / fold.name / FILE for fold in series.folds]
    return tuple(_adapter.validate_python(read_json(path)) for path in paths)


def _step(fold: Fold, settings: Settings, shared: Path, start: Path | None, ask: Ask) -> FoldResult:
    """Run one fold; `start` is where the model lies that it starts from, unless the original."""
    run = Path(str(settings.out))
    evidence = run / EVIDENCE
    # What the original says is the same in all cells, what another model says is not.
    roles = SHARED if start is None else GOLDS
    console = Console(Pruner([], begun=lambda: copy_evidence(shared, evidence, roles=roles)))
    began = time.monotonic()
    try:
        results = forget(settings, console=console).results
        ruling, gates, judged = results.verdict.ruling.value, results.gates, run
    except InputError as error:
        if error.code != NOTHING or start is None:
            raise
        ruling, gates, judged = Ruling.NOTHING_TO_FORGET.value, (), start
    store_evidence(evidence, shared, roles=roles)
    found = ask(settings, str(judged), run.parent / "probes", console)
    return FoldResult(
        name=fold.name,
        ruling=ruling,
        gates=gates,
        numbers=found.numbers,
        cost=cost_of(run, settings, began),
        models=digests(run),
        settings=to_toml(settings),
    )
