"""What the pages of the viewer show: a run, two runs side by side, a leaderboard."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from expunge.errors import ExpungeError, InputError
from expunge.evals.plain_words import measured, subject
from expunge.evals.results import Gate, Results
from expunge.evidence.store import ITEMS, EvidenceStore
from expunge.metrics.outcomes import Axis, Status
from expunge.provenance.keys import existing_key
from expunge.reporting.examples import ExampleAttempt, FactHistory, facts
from expunge.reporting.redaction import OpenText, Redactor
from expunge.reporting.schema import RunFacts, read_facts, read_results
from expunge.utils.io import read_table

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
    about: RunFacts | None

    def by_axis(self) -> list[tuple[Axis, Status | None, list[Gate]]]:
        """Return the gates by axis, in the order of the report."""
        return [(axis, self.results.axes.get(axis), self.results.of(axis)) for axis in Axis]


def shown_run(folder: Path, *, masked: bool) -> ShownRun:
    """Return what the page of a run shows.

    Args:
        folder: A finished run.
        masked: Whether the texts of records are masked as in a redacted report.

    Raises:
        InputError: Its results cannot be read.
    """
    try:
        about = read_facts(folder)
    except (ExpungeError, OSError):
        about = None
    rows, total, hidden = _facts(folder, masked=masked)
    results = read_results(folder)
    return ShownRun(results=results, facts=rows, total=total, hidden=hidden, about=about)


Read = TypeVar("Read")


def read_evidence(folder: Path, read: Callable[[EvidenceStore], Read]) -> Read | str:
    """Return what is read from the evidence of a run, or why there is nothing to show.

    Args:
        folder: A finished run.
        read: Reads what a page shows.
    """
    try:
        store = EvidenceStore(folder / "evidence", key=existing_key(folder))
        return read(store) if store.holds(ITEMS) else "The evidence was destroyed, or is not here."
    except (ExpungeError, OSError) as error:
        return error.what if isinstance(error, ExpungeError) else "It cannot be read."


def redactor_of(store: EvidenceStore, *, masked: bool) -> Redactor:
    """Return what masks the texts of records, or shows them."""
    return Redactor(store.items_with_facts()) if masked else OpenText()


def _facts(folder: Path, *, masked: bool) -> tuple[tuple[ShownFact, ...], int, str]:
    def read(store: EvidenceStore) -> tuple[tuple[FactHistory, ...], Redactor]:
        return facts(store), redactor_of(store, masked=masked)

    found = read_evidence(folder, read)
    if isinstance(found, str):
        return (), 0, found
    ranked, redactor = found
    return tuple(_shown_fact(each, redactor) for each in ranked[:MOST_FACTS]), len(ranked), ""


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
    """A leaderboard: its sentences, the head of its table and the rows that were asked for."""

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
        cells = [tuple(str(cell) for cell in row) for row in rows]
        wanted = [row for row in cells if words.casefold() in " ".join(row).casefold()]
        return ShownBoard(
            title=str(table["title"]),
            sentences=tuple(str(each) for each in table["sentences"]),
            head=tuple(str(each) for each in head),
            rows=tuple(wanted),
            total=len(cells),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "no-leaderboard",
            what="the leaderboard cannot be read",
            why="the file was changed, or is of another version",
            fix="write it again: expunge bench report FOLDER",
        ) from error
