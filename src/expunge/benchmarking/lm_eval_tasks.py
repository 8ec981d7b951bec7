"""Tasks of lm-eval beside a suite: the same numbers as `lm_eval`, on our own scoring.

`--beside lm-eval=arc_easy,mine.yaml` names tasks that lm-eval knows, and files of tasks. Where the
model has a chat template, questions are turns of a conversation (`lm_eval --apply_chat_template`).
The data of its own tasks come from the Hub; those of a file from where it says.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from expunge.benchmarking.probe_outputs import SUBJECT
from expunge.benchmarking.suites.base import Spec
from expunge.data.hub import kept_off_the_hub
from expunge.errors import ExpungeError, InputError
from expunge.evals.results import Score
from expunge.models.loading import Loaded
from expunge.utils.io import read_json, write_json

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

NAME = "lm-eval"
_Z = 1.96
_RESAMPLES = 1000
"""For the error of a metric that is no mean; lm-eval's own default is a hundred times that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One metric of one task."""

    task: str
    metric: str
    filter: str
    """How answers were read; `none` where in one way only."""
    value: float | None
    """None where it is not finite."""
    error: float | None
    """Standard error."""
    n: int | None
    """Questions; None for a group of tasks."""
    higher: bool | None
    """Whether more is better; None where the task does not say."""

    def score(self) -> Score:
        """Return this as a number of the table, with a normal 95 % interval."""
        read = "" if self.filter == "none" else f" ({self.filter})"
        value, error = self.value, self.error
        return Score(
            metric=f"{NAME} {self.metric}{read}",
            role=SUBJECT,
            split=self.task,
            attack="plain",
            value=value,
            low=None if value is None or error is None else value - _Z * error,
            high=None if value is None or error is None else value + _Z * error,
            n=self.n or 0,
            higher_is_better=self.higher,
            reason="" if value is not None else "lm-eval gives no finite number",
        )


_adapter = TypeAdapter(list[Measured])


def split_tasks(text: str) -> tuple[str, ...]:
    """Return the tasks of `TASK,TASK`, each once."""
    return tuple(dict.fromkeys(filter(None, (part.strip() for part in text.split(",")))))


def check(tasks: Sequence[str], *, offline: bool) -> None:
    """Find the tasks and their data before a model is loaded.

    Args:
        tasks: Names and files of tasks.
        offline: Never ask the Hub.

    Raises:
        InputError: lm-eval is not installed, there is no such task, or its data are not to be had.
    """
    manager = _manager(tasks)
    for task in tasks:
        with kept_off_the_hub(offline=offline), _naming(task):
            manager.load([task])


def measure(
    loaded: Loaded,
    tasks: Sequence[str],
    *,
    records: int | None,
    chat: bool,
    tokens_per_pass: int,
    folder: Path,
    offline: bool,
) -> list[Measured]:
    """Run tasks on a model; results of earlier runs are read from the folder.

    lm-eval seeds the random numbers of Python, NumPy and PyTorch, which some tasks draw from.

    Args:
        loaded: The model.
        tasks: Names and files of tasks.
        records: Use only the first so many questions of each task; None: all of them.
        chat: Use the chat template.
        tokens_per_pass: Largest number of padded tokens in one forward pass.
        folder: Where the results lie, a file for each task.
        offline: Never ask the Hub.

    Raises:
        InputError: As `check`; or a task draws answers at random, or runs code that a model wrote.
    """
    found: list[Measured] = []
    manager: TaskManager | None = None
    for place, task in enumerate(tasks):
        path = folder / f"{place}-{Path(task).stem}.json"
        if not path.is_file():
            manager = manager or _manager(tasks)
            answers = _ask(
                loaded,
                manager,
                task,
                records=records,
                chat=chat,
                tokens_per_pass=tokens_per_pass,
                offline=offline,
            )
            write_json(path, _adapter.dump_python(answers, mode="json"))
        found += _adapter.validate_python(read_json(path))
    return found


def note_of(spec: Spec, *, chat: bool) -> str:
    """Say what command gives the same numbers."""
    words = ["lm_eval", "--tasks", ",".join(split_tasks(spec.data))]
    words += ["--apply_chat_template"] if chat else []
    words += [] if spec.records is None else ["--limit", str(spec.records)]
    return f"numbers of lm-eval {version('lm_eval')} are those of `{' '.join(words)}`"


def measured(results: Mapping[str, Any]) -> list[Measured]:
    """Return the metrics of a group of tasks where lm-eval makes them, else of every task."""
    groups = {name: row for name, row in results.get("groups", {}).items() if _metrics(row)}
    found: list[Measured] = []
    for task, row in (groups or results["results"]).items():
        directions = results.get("higher_is_better", {}).get(task) or {}
        for metric, read, value in _metrics(row):
            error = row.get(f"{metric}_stderr,{read}")
            questions = results.get("n-samples", {}).get(task, {}).get("effective")
            found.append(
                Measured(
                    task=task,
                    metric=metric,
                    filter=read,
                    value=value,
                    error=_finite(error),
                    n=questions,
                    higher=directions.get(metric),
                )
            )
    return found


def _metrics(row: Mapping[str, Any]) -> list[tuple[str, str, float | None]]:
    """Return name, filter and value of each metric; its keys are `metric,filter`."""
    named = [(*key.partition(",")[::2], value) for key, value in row.items() if "," in key]
    return [
        (metric, read, _finite(value))
        for metric, read, value in named
        if isinstance(value, int | float) and not metric.endswith("_stderr")
    ]


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _ask(
    loaded: Loaded,
    manager: "TaskManager",
    task: str,
    *,
    records: int | None,
    chat: bool,
    tokens_per_pass: int,
    offline: bool,
) -> list[Measured]:
    from lm_eval.evaluator import simple_evaluate

    from expunge.benchmarking.lm_eval_model import LmEvalModel

    backend = LmEvalModel(loaded.network, loaded.tokenizer, tokens_per_pass=tokens_per_pass)
    with kept_off_the_hub(offline=offline), _naming(task):
        results = simple_evaluate(
            model=backend,
            tasks=[task],
            task_manager=manager,
            limit=records,
            apply_chat_template=chat,
            bootstrap_iters=_RESAMPLES,
            log_samples=False,
        )
    assert results is not None, "there is one process"
    return measured(results)


def _manager(tasks: Sequence[str]) -> "TaskManager":
    """Return what finds tasks; reading all that lm-eval knows takes seconds, files need none."""
    if find_spec("lm_eval") is None:
        raise InputError(
            "no-lm-eval",
            what="lm-eval is not installed",
            why="it is an extra: most runs do not need it",
            fix="pip install 'expunge[lm-eval]'",
        )
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=not all(_is_file(task) for task in tasks))
    known = set(manager.all_tasks)
    for task in tasks:
        if task not in known and not _is_file(task):
            near = get_close_matches(task, known, n=3)
            raise InputError(
                "no-lm-eval-task",
                what=f"lm-eval knows no task {task!r}, and there is no such file",
                why=f"near are {', '.join(near)}" if near else "no task is called anything like it",
                fix="`lm_eval ls tasks` lists them; a file of a task ends in .yaml",
            )
    return manager


def _is_file(task: str) -> bool:
    return task.endswith((".yaml", ".yml")) and Path(task).is_file()


@contextmanager
def _naming(task: str) -> Generator[None]:
    """Turn what lm-eval raises over a task into an error that names the task."""
    try:
        yield
    except ExpungeError:
        raise
    except (ImportError, KeyError, OSError, TypeError, ValueError) as error:
        first = next(iter(str(error).strip().split("\n")))[:200]
        raise InputError(
            "lm-eval-task",
            what=f"lm-eval cannot run its task {task}",
            why=f"{type(error).__name__}: {first}",
            fix="its data come from the Hub unless it is a file that says otherwise: check the"
            " network, or what the task needs (`pip install 'lm-eval[TASK]'`)",
        ) from error
