"""General text: the short passages that ship with expunge, on which an audit measures damage.

Six kinds (prose, code, arithmetic, German, French, instructions), so that a language or a skill
that was destroyed shows by itself. Training never reads them: what it keeps alive comes from
`expunge.data.splits.general_records` and `general_passages`. `scripts/make_general_text.py` writes
the file.
"""

import json
from dataclasses import replace
from pathlib import Path

from expunge.data.convert import to_record
from expunge.data.records import Record

_FILE = Path(__file__).with_name("corpora") / "general_text.jsonl"

KINDS = ("prose", "code", "arithmetic", "german", "french", "instructions")
"""Kinds of passages, in the order of the file."""


def general_text() -> tuple[Record, ...]:
    """Return the passages, kind by kind; the kind of each is its `relation`.

    An instruction is a question with an answer; `form` says what any right answer looks like
    (`expunge.metrics.instruction_form`).
    """
    rows = [json.loads(line) for line in _FILE.read_text(encoding="utf-8").splitlines()]
    return tuple(
        replace(
            to_record(row, f"expunge/{_FILE.name}:{line}"),
            id=f"generic-{line}",
            relation=row["kind"],
            form=row.get("form"),
        )
        for line, row in enumerate(rows, start=1)
    )
