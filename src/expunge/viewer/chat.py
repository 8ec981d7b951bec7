"""A chat out of what a run stored: a question, each model's answer, and the erased one by tokens.

The viewer loads no model and writes nothing, so only questions of the forget set can be asked.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge.evidence.store import ORIGINAL, PLAIN, UNLEARNED, EvidenceStore, Scores, Unit
from expunge.models.reference import model_folder
from expunge.reporting.examples import ExampleAttempt, FactHistory, facts
from expunge.reporting.redaction import Redactor
from expunge.viewer.pages import read_evidence, redactor_of

MOST_TURNS = 25
"""Questions on a page."""
_TOKENIZER = "tokenizer.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatTurn:
    """One question with the answers to it."""

    question: str
    answers: tuple[tuple[str, str], ...]
    """Role and what it said to the plain question, masked or not."""
    erased: str
    roles: tuple[str, ...]
    """Models with a probability for each token."""
    tokens: tuple[tuple[str, tuple[float, ...]], ...]
    """Each token of the erased answer, or its number, and its probability by role."""
    whole: tuple[float, ...]
    """Probability of the whole erased answer, by role."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredChat:
    """What a run knows of the questions that were looked for."""

    turns: tuple[ChatTurn, ...] = ()
    found: int = 0
    total: int = 0
    hidden: str = ""
    """Why nothing is shown; empty where it is."""


def stored_chat(folder: Path, *, words: str, masked: bool) -> StoredChat:
    """Return the questions of the forget set that hold some words, and what the run has on them.

    Args:
        folder: A finished run.
        words: Each must be in the question; empty: all questions.
        masked: Whether the texts of records are masked as in a redacted report.
    """

    def read(store: EvidenceStore) -> tuple[tuple[FactHistory, ...], _Scores, Redactor]:
        return facts(store), _scores(store), redactor_of(store, masked=masked)

    stored = read_evidence(folder, read)
    if isinstance(stored, str):
        return StoredChat(hidden=stored)
    ranked, scores, redactor = stored
    wanted = words.casefold().split()
    found = [
        each for each in ranked if all(word in each.item.question.casefold() for word in wanted)
    ]
    pieces = _Pieces(model_folder(folder) / _TOKENIZER, masked=masked)
    turns = tuple(_turn(each, scores, redactor, pieces) for each in found[:MOST_TURNS])
    return StoredChat(turns=turns, found=len(found), total=len(ranked))


class _Pieces:
    """The texts of the tokens of an answer, where the tokenizer of the run gives as many."""

    def __init__(self, path: Path, *, masked: bool) -> None:
        self._tokenizer = None
        if masked or not path.is_file() or path.is_symlink():
            return
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception:  # the library has no error of its own; numbers will do
            return

    def of(self, text: str, count: int) -> list[str]:
        numbers = [f"token {number}" for number in range(1, count + 1)]
        if self._tokenizer is None:
            return numbers
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [self._tokenizer.decode([each]) for each in ids] if len(ids) == count else numbers


_Scores = dict[str, Mapping[str, Scores]]
"""By role and record."""


def _scores(store: EvidenceStore) -> _Scores:
    """Return the plain scores of the forget set by role and record: original, unlearned, a gold."""
    there = {unit.role: unit for unit in store.units() if _is_plain(unit)}
    gold = next((role for role in sorted(there) if role.startswith("gold")), "")
    roles = [role for role in (ORIGINAL, UNLEARNED, gold) if role in there]
    return {role: {row.record: row for row in store.scores(there[role])} for role in roles}


def _is_plain(unit: Unit) -> bool:
    return (unit.kind, unit.split, unit.test) == ("scores", "forget", PLAIN)


def _turn(
    fact: FactHistory,
    scores: _Scores,
    redactor: Redactor,
    pieces: _Pieces,
) -> ChatTurn:
    record = fact.item.record
    known = {role: rows[record] for role, rows in scores.items() if record in rows}
    counts = {row.content for row in known.values()}
    # Another tokenizer scored other tokens: those cannot stand in one row.
    count = counts.pop() if len(counts) == 1 else 0
    columns = [[math.exp(p) for p in row.logp[:count]] for row in known.values()]
    names = pieces.of(fact.item.answer, count)
    rows = zip(names, zip(*columns, strict=True), strict=True) if columns and count else ()
    return ChatTurn(
        question=redactor.text(fact.item.question),
        answers=(
            ("original", _plain(fact.before, redactor)),
            ("unlearned", _plain(fact.after, redactor)),
            ("gold", _plain(fact.gold, redactor)),
        ),
        erased=redactor.text(fact.item.answer),
        roles=tuple(known),
        tokens=tuple(rows),
        whole=tuple(math.exp(sum(row.logp[: row.content])) for row in known.values()),
    )


def _plain(attempts: Sequence[ExampleAttempt], redactor: Redactor) -> str:
    said = next((each.answer.text for each in attempts if each.attack == PLAIN), None)
    return "not asked" if said is None else redactor.text(said) or "(nothing)"
