"""`plan`, `forget` and `audit` as they are called in Python.

Each takes settings, or a model with its data: paths, or objects in memory. Objects are written to
private files first, see `expunge.pipeline.inputs`, so that a run can be repeated and verified.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from expunge.config.settings import Settings
from expunge.errors import UsageError
from expunge.pipeline import forget as jobs
from expunge.pipeline.early_checks import check_settings
from expunge.pipeline.forget import RUNS, RunOutcome
from expunge.pipeline.inputs import Model, Records, RunInputs, reference_for, settings_for
from expunge.pipeline.plan import Plan
from expunge.utils.console import Console, ProgressScreen, ProgressUpdate
from expunge.utils.io import AnyPath

Report = Callable[[ProgressUpdate], None]
"""Called when a phase of a run begins or advances."""


def plan(
    model: Settings | Model,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    forget: Records | None = None,
    retain: Records | None = None,
    neighbours: Records | None = None,
    holdout: Records | None = None,
    golds: Sequence[Model] = (),
    goal: str | None = None,
    method: str | None = None,
    options: Mapping[str, object] | None = None,
    console: Console | None = None,
) -> Plan:
    """Say what a run will compute and cost; no weight is loaded.

    The arguments are those of `forget`.

    Raises:
        ExpungeError: An input is missing or malformed, or the run cannot fit on this machine.

    Example:
        >>> import expunge
        >>> expunge.plan("org/model", forget="erase.jsonl", goal="removed")
        Traceback (most recent call last):
            ...
        expunge.errors.UsageError: error[invalid-value]: `request.goal` has a value that is not...
    """
    inputs = RunInputs(
        tokenizer=tokenizer,
        forget=forget,
        retain=retain,
        neighbours=neighbours,
        holdout=holdout,
        golds=golds,
        goal=goal,
        method=method,
        options=options,
    )
    return jobs.plan(_settings(model, inputs), console=console)


def forget(
    model: Settings | Model,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    forget: Records | None = None,
    retain: Records | None = None,
    neighbours: Records | None = None,
    holdout: Records | None = None,
    golds: Sequence[Model] = (),
    goal: str | None = None,
    method: str | None = None,
    out: AnyPath | None = None,
    options: Mapping[str, object] | None = None,
    progress: Report | None = None,
    console: Console | None = None,
) -> RunOutcome:
    """Make a model forget, audit it, and write the run folder.

    Each record set is a path, a Hub id, a list of them, rows as dicts, a `datasets.Dataset` or a
    pandas data frame. A model in memory is not changed: the unlearned one is `outcome.model`.
    The same call resumes a run that was stopped.

    Args:
        model: Settings, which hold everything else; a Hub id or path; or a transformers model.
        tokenizer: Of a model in memory.
        forget: What to forget.
        retain: What to keep, or `auto` (the default) or `none`.
        neighbours: Near the target, must survive.
        holdout: Like what is forgotten, never trained on.
        golds: Models trained the same way without what is to be forgotten.
        goal: `removal`, `suppression` or `edit`; there is no default.
        method: A name from `expunge methods`; default `auto`.
        out: The run folder; default a new one below `runs`.
        options: Any other setting by its key path, such as `{"train.lr": 1e-4}`.
        progress: Called as the run advances; `progress=print` will do.
        console: Where to say what happens; silent by default.

    Raises:
        ExpungeError: What was written stays; the same call resumes.

    Example:
        >>> import expunge
        >>> rows = [{"prompt": "Where does Lin live?", "completion": "In Oslo."}]
        >>> given = {"forget": rows, "goal": "removal"}
        >>> outcome = expunge.forget(model, tokenizer, **given)  # doctest: +SKIP
    """
    inputs = RunInputs(
        tokenizer=tokenizer,
        forget=forget,
        retain=retain,
        neighbours=neighbours,
        holdout=holdout,
        golds=golds,
        goal=goal,
        method=method,
        out=out,
        options=options,
    )
    return jobs.forget(_settings(model, inputs), console=_console(console, progress))


def audit(
    original: Settings | Model,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    model: Model,
    forget: Records | None = None,
    retain: Records | None = None,
    neighbours: Records | None = None,
    holdout: Records | None = None,
    golds: Sequence[Model] = (),
    goal: str | None = None,
    out: AnyPath | None = None,
    options: Mapping[str, object] | None = None,
    gold: bool = False,
    against: AnyPath | None = None,
    progress: Report | None = None,
    console: Console | None = None,
) -> RunOutcome:
    """Judge any model in the place of the unlearned one.

    The arguments that are not listed are those of `forget`.

    Args:
        original: The model before forgetting, or settings.
        tokenizer: Of models in memory, the original and the judged one.
        model: The model to judge: a reference, or an object.
        gold: Whether it is known that the model never saw what is to be forgotten.
        against: The run folder that the settings come from; the records and the original must be
            those of that run.

    Raises:
        ExpungeError: What was written stays; the same call resumes.

    Example:
        >>> import expunge
        >>> data = {"forget": "erase.jsonl", "goal": "removal"}
        >>> outcome = expunge.audit("org/original", model="org/unlearned", **data)  # doctest: +SKIP
    """
    against = None if against is None else Path(against)
    before, after = (
        not isinstance(each, Settings | str | os.PathLike) for each in (original, model)
    )
    inputs = RunInputs(
        tokenizer=tokenizer if before else None,
        forget=forget,
        retain=retain,
        neighbours=neighbours,
        holdout=holdout,
        golds=golds,
        goal=goal,
        out=out,
        options=options,
    )
    settings = _settings(original, inputs)
    judged = reference_for(model, tokenizer if after or not before else None, root=RUNS)
    shown = _console(console, progress)
    return jobs.audit(settings, model=judged, gold=gold, against=against, console=shown)


def _settings(model: Settings | Model, inputs: RunInputs) -> Settings:
    settings = settings_for(model, inputs, root=RUNS)
    if not isinstance(model, Settings):
        check_settings(settings)
    return settings


def _console(console: Console | None, progress: Report | None) -> Console | None:
    if progress is None:
        return console
    if console is not None:
        raise UsageError(
            "console-and-progress",
            what="both console and progress were given",
            why="a run reports to one of them",
            fix="leave one of them away",
        )
    if not callable(progress):
        raise UsageError(
            "progress-not-callable",
            what=f"progress is a {type(progress).__name__}",
            why="it is called with an update at every step",
            fix="give a function of one argument, such as print",
        )
    return Console(ProgressScreen(progress))
