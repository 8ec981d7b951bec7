"""From the words of a command to settings and folders.

How a run that was judged ends: its numbers as data, the next command, the exit code.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from expunge.cli.options import COMMAND_VARIABLES, RequestFlags, TrainFlags
from expunge.cli.session import Session
from expunge.errors import GateError, InputError, UsageError
from expunge.utils.console import Console
from expunge.utils.file_names import REPORT, RESULTS, RUN
from expunge.utils.io import did_you_mean, require_no_special_files

if TYPE_CHECKING:
    from expunge.config.settings import Settings
    from expunge.evals.results import Results


def resolve_settings(
    model: str | None,
    data: tuple[str, ...],
    *,
    request: RequestFlags,
    train: TrainFlags,
    offline: bool,
    defaults: Mapping[str, object] | None = None,
) -> "Settings":
    """Resolve files, variables and flags once into the settings of this run.

    Args:
        model: The original, or a request file.
        data: What to forget.
        request: Flags of the request.
        train: Flags of the training.
        offline: Never use the network.
        defaults: As for `expunge.config.resolve.resolve`.

    Raises:
        UsageError: A request file was given twice, or the settings are not valid.
    """
    from expunge.config.resolve import resolve

    config = request.config
    if model is not None and model.endswith(".toml"):
        if config is not None:
            raise two_request_files(model, config, "a run")
        model, config = None, Path(model)
    paths: dict[str, object] = {**request.paths(), **train.paths()}
    if model is not None:
        paths["model"] = model
    if data:
        paths["request.forget"] = list(data)
    if offline:
        paths["offline"] = True
    environ = {k: v for k, v in os.environ.items() if k not in COMMAND_VARIABLES}
    start = Path.cwd()
    found = resolve(paths, config=config, environ=environ, start=start, defaults=defaults)
    settings = found.settings
    if settings.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    return settings


def sentences_as_files(
    model: str | None, data: tuple[str, ...], session: Session, *, answered: bool = True
) -> tuple[str, ...]:
    """Write sentences and questions among the data as files of records.

    Args:
        model: The original, or a request file that names it; None: one from a variable.
        data: What to forget.
        session: Of the command.
        answered: Whether the model may be loaded, which answers a question.

    Raises:
        ExpungeError: A text states no fact, or a question cannot be answered: no model may be
            loaded, or only a request file names it.
    """
    if model is None and not data:
        return data

    from expunge.requests.sentence import TextKind, as_told, kind_of, require_fact

    if model is not None and kind_of(model) in (TextKind.QUESTION, TextKind.STATEMENT):
        raise UsageError(
            "model-is-a-sentence",
            what="a sentence stands where the model does",
            why="the model comes first, and then what to forget",
            fix='expunge forget MODEL "SENTENCE" --goal GOAL',
        )
    told = {each for each in data if not each.strip() or kind_of(each) != TextKind.PATH}
    for each in told:
        require_fact(each)
        if not as_told(each).statement:
            _require_answer(model, answered=answered)
    if not told:
        return data

    from expunge.models.reference import require_model

    named = model or ""
    if named and not named.endswith(".toml"):
        require_model(named, offline=session.offline, weights=answered)

    from expunge.pipeline.forget import RUNS  # torch: behind the checks
    from expunge.pipeline.request import sentence_request

    offline, console = session.offline, session.console
    write = partial(sentence_request, model=named, root=RUNS, offline=offline, console=console)
    return tuple(dict.fromkeys(str(write(each)) if each in told else each for each in data))


def _require_answer(model: str | None, *, answered: bool) -> None:
    """Refuse a question where no model may answer it."""
    if not answered or model is None or model.endswith(".toml"):
        raise UsageError(
            "question-not-answered",
            what="no model is there to answer the question",
            why="its own answer is what is forgotten; a plan loads none, and a request file beside"
            " a question names none",
            fix="state the fact as a sentence, or use expunge forget MODEL QUESTION",
        )


def two_request_files(first: str, config: Path, who: str) -> UsageError:
    """Return the error of a command that was given two request files."""
    return UsageError(
        "two-request-files",
        what=f"both {first} and --config {config} were given",
        why=f"{who} has one request file, so that it can be run again from it",
        fix="leave one of them away",
    )


def folder_of(request: RequestFlags) -> Path | None:
    """Return the folder that --out, --set out or EXPUNGE_OUT names; None where none of them does.

    What a request file says is where `expunge forget` writes, and no other command.
    """
    named = request.paths().get("out") or os.environ.get("EXPUNGE_OUT", "").strip()
    return Path(str(named)) if named else None


def check_gate(settings: "Settings", *, gate: bool, files: Sequence[Path] = ()) -> None:
    """Refuse a gate whose retain set nobody chose, and files of gates in an unknown format.

    Raises:
        UsageError: `gate` with `retain = "auto"`; a file that ends in neither .xml nor .json.
    """
    if files:
        from expunge.reporting.gate_file import require_gate_file

        for path in files:
            require_gate_file(path)
    if gate and settings.request.retain == "auto":
        raise UsageError(
            "gate-without-retain",
            what="--gate needs a retain set, but retain is auto",
            why="a release must not hang on data that nobody chose",
            fix="name the data to keep with --retain FILE, or say --retain none",
        )


def check_ledger(ledger: Path | None) -> None:
    """Refuse a ledger that could not be written to; None stands for none."""
    if ledger is not None:
        from expunge.pipeline.bookkeeping import require_ledger

        require_ledger(ledger)


def enter(ledger: Path | None, run: Path, console: Console) -> None:
    """Enter a finished run into a ledger; None stands for none."""
    if ledger is not None:
        from expunge.pipeline.bookkeeping import enter_run

        done = enter_run(ledger, run)
        about = ", ".join(filter(None, (done.run, done.request, done.claim)))
        console.line("ledger", f"{ledger}   {about}")


def run_folder(run: Path, *, linked: bool = False) -> Path:
    """Return `run` with symlinks resolved; of its model folder, the run that holds it.

    Args:
        run: A path that may itself be a link, such as runs/latest.
        linked: Whether the folder may hold links: for a command that reports and follows none.

    Raises:
        InputError: There is no such run folder.
        UsageError: It holds a link (`link-in-run`).
    """
    from expunge.models.reference import run_of_model

    run = run_of_model(run)
    if not run.is_dir() or not any((run / name).is_file() for name in (RUN, RESULTS)):
        raise InputError(
            "no-run",
            what=f"{run} is not a run folder",
            why="a run folder is what `expunge forget` or `expunge audit` wrote",
            fix=did_you_mean(str(run), "give its path, for example runs/latest"),
        )
    if not linked:
        require_no_special_files(run)
    return run.resolve()


_USUAL = "T1"
"""The threat model of a request that names none."""


class FinishedRun(Protocol):
    """A run folder and what the audit concluded in it."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        ...

    @property
    def results(self) -> "Results":
        """Scores, gates and verdict."""
        ...

    @property
    def steps(self) -> int:
        """Steps that were trained; 0 where nothing was."""
        ...


def conclude(
    outcome: FinishedRun,
    *,
    console: Console,
    gate: bool,
    promise: str = _USUAL,
    allow_scar: bool = False,
    files: Sequence[Path] = (),
) -> int:
    """Say the results as data and what to do next; return the exit code 0.

    Args:
        outcome: The run.
        console: Where to say it.
        gate: Whether anything but a pass is an error.
        promise: The threat model that was asked for. Of the usual one a provisional pass is enough.
        allow_scar: Whether the policy lets PASS-WITH-SCAR through.
        files: Files to which the gates are written as well.

    Raises:
        GateError: `gate` is set, and the verdict is not one that the policy lets through, or speaks
            of a weaker adversary than was asked for.
    """
    from expunge.evals.results import Ruling

    verdict = outcome.results.verdict
    short = verdict.threat_model < promise and promise > _USUAL
    passes = {Ruling.PASS, *([Ruling.PASS_WITH_SCAR] if allow_scar else [])}
    passed = verdict.ruling in passes and not short
    failed = gate and not passed
    _write_gates(outcome, files, passed=passed, console=console)
    for score in outcome.results.scores:
        console.event("score", asdict(score))
    console.event("verdict", asdict(verdict))
    console.event(
        "done", {"folder": outcome.folder, "ruling": verdict.ruling, "exit": 3 if failed else 0}
    )
    console.line("next", f"expunge report {outcome.folder} --open")
    from expunge.reporting.wording import next_command  # loads the statistics

    if (command := next_command(verdict, outcome.folder, steps=outcome.steps)) is not None:
        console.line("then", command)
    if failed:
        raise GateError(
            "gate-failed",
            what=f"verdict {verdict.ruling} under {verdict.threat_model} at tier {verdict.tier}"
            + (f"; {promise} was asked for" if short else ""),
            why=verdict.reasons[0] if verdict.reasons else verdict.sentence,
            fix=f"read {outcome.folder / REPORT}; the run itself is complete",
        )
    return 0


def _write_gates(
    outcome: FinishedRun, files: Sequence[Path], *, passed: bool, console: Console
) -> None:
    if not files:
        return
    from expunge.reporting.gate_file import write_gate_file

    for path in files:
        write_gate_file(path, outcome.results, folder=outcome.folder, passed=passed)
        console.line("gates", str(path))
