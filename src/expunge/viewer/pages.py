"""What the pages of the viewer show: a run, two runs side by side, and tables.

A leaderboard, the attacks on a model and a ledger are tables.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.errors import InputError
from expunge.evals.plain_words import measured, subject
from expunge.evals.results import Gate, Results
from expunge.ledger.store import Ledger, entries_of
from expunge.ledger.words import in_words
from expunge.metrics.outcomes import Axis, Status
from expunge.reporting.examples import ExampleAttempt, FactHistory
from expunge.reporting.recovery import WORDS
from expunge.reporting.redaction import Redactor
from expunge.reporting.schema import read_results
from expunge.utils.file_names import ATTACK_TABLE
from expunge.utils.io import read_table
from expunge.viewer.evidence import RunEvidence

MOST_FACTS = 50
"""Facts on a page, worst first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownFact:
    """One fact of the forget set: the question, and what each model said to it, masked or not."""

    record: str
    question: str
    answer: str
    before: str
    after: str
    gold: str
    returned: int
    """Attempts after the run that brought it back."""
    attempts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownRun:
    """A run as its page shows it."""

    results: Results
    facts: tuple[ShownFact, ...]
    total: int
    """Facts of the forget set, of which the page shows some."""
    hidden: str
    """Why no fact is shown; empty where they are."""

    def by_axis(self) -> list[tuple[Axis, Status | None, list[Gate]]]:
        """Return the gates by axis, in the order of the report."""
        return [(axis, self.results.axes.get(axis), self.results.of(axis)) for axis in Axis]


def shown_run(folder: Path, evidence: RunEvidence | str, *, masked: bool) -> ShownRun:
    """Return what the page of a run shows.

    Args:
        folder: A finished run.
        evidence: What it stored, or why that cannot be shown.
        masked: Whether the texts of records are masked as in a redacted report.

    Raises:
        InputError: Its results cannot be read.
    """
    results = read_results(folder)
    if isinstance(evidence, str):
        return ShownRun(results=results, facts=(), total=0, hidden=evidence)
    redactor, ranked = evidence.redactor(masked=masked), evidence.facts
    rows = tuple(_shown_fact(each, redactor) for each in ranked[:MOST_FACTS])
    return ShownRun(results=results, facts=rows, total=len(ranked), hidden="")


def _shown_fact(each: FactHistory, redactor: Redactor) -> ShownFact:
    return ShownFact(
        record=each.item.record,
        question=redactor.text(each.item.question),
        answer=redactor.text(each.item.answer),
        before=_said(each.before, redactor),
        after=redactor.text(each.shown.answer.text) if each.after else "not asked",
        gold=_said(each.gold, redactor),
        returned=each.returns,
        attempts=len(each.after),
    )


def _said(attempts: Sequence[ExampleAttempt], redactor: Redactor) -> str:
    return redactor.text(attempts[0].answer.text) if attempts else "not asked"


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedGate:
    """One gate in two runs; None where a run has no such gate."""

    name: str
    title: str
    axis: Axis
    first: Gate | None
    second: Gate | None

    @property
    def changed(self) -> bool:
        """Whether the two came to different results."""
        return (self.first and self.first.status) != (self.second and self.second.status)


def compared(first: Results, second: Results) -> list[ComparedGate]:
    """Return the gates of two runs by axis, side by side."""
    left = {(gate.axis, gate.name): gate for gate in first.gates}
    right = {(gate.axis, gate.name): gate for gate in second.gates}
    keys = sorted(left | right, key=lambda key: [*Axis].index(key[0]))
    pairs = [(axis, name, left.get((axis, name)), right.get((axis, name))) for axis, name in keys]
    return [
        ComparedGate(name=name, title=subject(known), axis=axis, first=one, second=other)
        for axis, name, one, other in pairs
        if (known := one or other) is not None
    ]


def gate_text(gate: Gate | None) -> str:
    """Return value, bounds and limit of a gate in words; a dash where there is none."""
    return "–" if gate is None else measured(gate)  # noqa: RUF001 - an en dash is meant


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownBoard:
    """A table: its sentences, its head and the rows that were asked for."""

    title: str
    sentences: tuple[str, ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total: int


def shown_board(path: Path, *, words: str) -> ShownBoard:
    """Return a leaderboard.

    Args:
        path: `leaderboard.json` of a benchmark.
        words: Only rows with this text in one of their cells; empty: all.

    Raises:
        InputError: The file is not a leaderboard.
    """
    try:
        table: dict[str, Any] = read_table(path)
        head, rows = table["standings"]
        return _filtered(str(table["title"]), table["sentences"], head, rows, words=words)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "no-leaderboard",
            what="the leaderboard cannot be read",
            why="the file was changed, or is of another version",
            fix="write it again: expunge bench report FOLDER",
        ) from error


def shown_attacks(folder: Path, title: str, *, words: str) -> ShownBoard:
    """Return the attacks on a model, the worst first.

    Args:
        folder: A folder of `expunge attack`.
        title: What the page is called.
        words: As for `shown_board`.

    Raises:
        InputError: Its numbers cannot be read.
    """
    try:
        table: dict[str, Any] = read_table(folder / ATTACK_TABLE)
        summary = table["summary"]
        rows = [_attack_row(rung) for rung in table["rungs"]]
        said = (summary["sentence"], summary["counted"], _RECOVERED)
        return _filtered(title, said, _ATTACK_HEAD, rows, words=words)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "no-attacks",
            what=f"{ATTACK_TABLE} cannot be read",
            why="the file was changed, or is of another version",
            fix="say what is wrong: expunge verify FOLDER",
        ) from error


_RECOVERED = (
    "Recovered is what an attack brings back beyond a model without the data: 0 is nothing, 1 is"
    " what the original states. Bounds are one-sided 95 %."
)
_ATTACK_HEAD = ("attack", "access", "result", "K", "recovered", "bounds", "facts")


def _attack_row(rung: dict[str, Any]) -> tuple[str, ...]:
    worst = rung["tests"][0] if rung["tests"] else None
    result = WORDS[Status(rung["status"])]
    if worst is None:
        return rung["attack"], rung["access"], f"{result}: {rung['reason']}", "", "", "", ""
    if worst["reason"]:
        result += f": {worst['reason']}"
    bounds = f"{worst['low']:.2f} to {worst['high']:.2f}"
    stated, recovered = f"{worst['judged']:.2f}", f"{worst['rho']:.2f}"
    return rung["attack"], rung["access"], result, stated, recovered, bounds, str(worst["n"])


def shown_ledger(path: Path, title: str, *, words: str) -> ShownBoard:
    """Return the entries of a ledger, the newest first; nothing is written.

    Args:
        path: The file.
        title: What the page is called.
        words: As for `shown_board`.

    Raises:
        InputError: It is no ledger, or a row cannot be read.
    """
    ledger = Ledger(path)
    left = "The file is what its last writer left, by its signed head."
    if not ledger.is_as_left():
        left = "The file is not what its signed head says: expunge ledger verify names what is."
    rows = [
        (row.sequence, row.time[:16].replace("T", " "), row.kind, in_words(entry))
        for row, entry in entries_of(reversed(ledger.rows()), path)
    ]
    said = (left, "Names, paths and records stand here as keyed hashes alone.")
    return _filtered(title, said, ("entry", "time", "kind", "what"), rows, words=words)


def _filtered(
    title: str,
    sentences: Iterable[object],
    head: Iterable[object],
    rows: Iterable[Iterable[object]],
    *,
    words: str,
) -> ShownBoard:
    """Return a table with those of its rows that have a text in one of their cells."""
    cells = [tuple(str(cell) for cell in row) for row in rows]
    wanted = [row for row in cells if words.casefold() in " ".join(row).casefold()]
    return ShownBoard(
        title=title,
        sentences=tuple(str(each) for each in sentences),
        head=tuple(str(each) for each in head),
        rows=tuple(wanted),
        total=len(cells),
    )
