"""A chat out of what a run stored: a question, each model's answer, and the erased one by tokens.

The viewer loads no model and writes nothing, so only questions of the forget set can be asked.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.evidence.store import PLAIN, Scores
from expunge.models.reference import model_folder
from expunge.reporting.examples import ExampleAttempt, FactHistory
from expunge.reporting.redaction import Redactor
from expunge.reporting.wording import spelled
from expunge.viewer.evidence import RunEvidence

if TYPE_CHECKING:
    from tokenizers import Tokenizer

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


def stored_chat(
    folder: Path, evidence: RunEvidence | str, *, words: str, masked: bool
) -> StoredChat:
    """Return the questions of the forget set that hold some words, and what the run has on them.

    Args:
        folder: A finished run.
        evidence: What it stored, or why that cannot be shown.
        words: Each must be in the question; empty: all questions.
        masked: Whether the texts of records are masked as in a redacted report.
    """
    if isinstance(evidence, str):
        return StoredChat(hidden=evidence)
    ranked, scores = evidence.facts, evidence.scores
    redactor = evidence.redactor(masked=masked)
    wanted = words.casefold().split()
    found = [
        each for each in ranked if all(word in each.item.question.casefold() for word in wanted)
    ]
    pieces = _Pieces(model_folder(folder) / _TOKENIZER, masked=masked)
    turns = tuple(_turn(each, scores, redactor, pieces) for each in found[:MOST_TURNS])
    return StoredChat(turns=turns, found=len(found), total=len(ranked))


@lru_cache(maxsize=4)
def _tokenizer(path: str, changed: int, size: int) -> "Tokenizer | None":
    """Return the tokenizer of a run, read again when its file is another one."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(path)
    except Exception:  # the library has no error of its own; numbers will do
        return None


class _Pieces:
    """The texts of the tokens of an answer, where the tokenizer of the run gives as many."""

    def __init__(self, path: Path, *, masked: bool) -> None:
        self._tokenizer = None
        if not masked and path.is_file() and not path.is_symlink():
            state = path.stat()
            self._tokenizer = _tokenizer(str(path), state.st_mtime_ns, state.st_size)

    def of(self, text: str, count: int) -> list[str]:
        numbers = [f"token {number}" for number in range(1, count + 1)]
        if self._tokenizer is None:
            return numbers
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        if len(ids) != count:
            return numbers
        return [spelled(self._tokenizer.decode([each])) for each in ids]


def _turn(
    fact: FactHistory,
    scores: Mapping[str, Mapping[str, Scores]],
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
