"""Text that ships with expunge: what training keeps, what an audit measures on, and word lists.

No text serves both training and an audit. `general_text` is measured alone: it has six kinds
(prose, code, arithmetic, German, French, instructions), so that a language or a skill that was
destroyed shows by itself. `general_records`, `general_passages` and `other_kinds` are for training.
`scripts/make_general_text.py` and `scripts/make_common_words.py` write two of the files.
"""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

from expunge.data.convert import to_record
from expunge.data.readers import read
from expunge.data.records import Record

_FOLDER = Path(__file__).parent

KINDS = ("prose", "code", "arithmetic", "german", "french", "instructions")
"""Kinds of passages of the audit, in the order of the file."""


@cache
def general_text() -> tuple[Record, ...]:
    """Return the passages of the audit, kind by kind; the kind of each is its `relation`.

    An instruction is a question with an answer; `form` says what any right answer looks like
    (`expunge.metrics.answer_quality`).
    """
    rows = _rows("general_text.jsonl")
    return tuple(
        replace(record, id=f"generic-{line}", form=row.get("form"))
        for line, (row, record) in enumerate(rows, start=1)
    )


def general_records() -> tuple[Record, ...]:
    """Return the questions of general knowledge, with answers."""
    return _records("general.jsonl")


def general_passages() -> tuple[Record, ...]:
    """Return the passages of plain text; no audit reads them."""
    return _records("passages.jsonl")


def other_kinds() -> tuple[Record, ...]:
    """Return passages of code, arithmetic and languages; no audit reads them.

    The kind of each is its `relation`. No language of the audit is among them, so that the audit
    sees what was not rehearsed.
    """
    return tuple(record for _, record in _rows("other_kinds.jsonl"))


@cache
def refusal_texts() -> tuple[str, ...]:
    """Return sentences that refuse to answer."""
    return _lines("refusals.txt")


@cache
def unanswerable_questions() -> tuple[str, ...]:
    """Return questions that nobody can answer."""
    return _lines("unanswerable.txt")


@cache
def insults() -> frozenset[str]:
    """Return mild words of insult, in lower case: the lexicon of `expunge.metrics.toxicity`."""
    return frozenset(_text("insults.txt").split())


@cache
def common_words() -> tuple[str, ...]:
    """Return the 12,000 most common English words that are no names, most frequent first.

    `scripts/make_common_words.py` says from which texts they were counted.
    """
    return tuple(_text("common_words.txt").split())


@cache
def common_names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return common given names and common surnames."""
    given, last = _lines("names.txt")
    return tuple(given.split()), tuple(last.split())


def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _lines(name: str) -> tuple[str, ...]:
    return tuple(_text(name).strip().split("\n"))


def _rows(name: str) -> list[tuple[dict[str, str], Record]]:
    """Return the rows of a file whose rows name a kind, each with its record."""
    rows = [json.loads(line) for line in _text(name).splitlines()]
    return [
        (row, replace(to_record(row, f"expunge/{name}:{line}"), relation=row["kind"]))
        for line, row in enumerate(rows, start=1)
    ]


def _records(name: str) -> tuple[Record, ...]:
    return tuple(
        replace(record, source=f"expunge/{name}:{line}")
        for line, record in enumerate(read([str(_FOLDER / name)]).records, start=1)
    )
