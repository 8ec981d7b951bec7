"""The annex for an authority: the attack table, and answers to forty questions with their sources.

The order is that of EDPB Opinion 28/2024 (release context, tests, documentation), then the CNIL,
the GPAI Code of Practice and the questions of algorithmic disgorgement.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

from expunge.ledger.documents.answers import FieldAnswer, answers, declarations
from expunge.ledger.documents.attack_table import CLASSES, AttackRow, attack_table, row_words
from expunge.ledger.documents.letter import default_path
from expunge.ledger.documents.record import RunRecord, read_record
from expunge.ledger.documents.sheet import (
    Sheet,
    SheetBlock,
    SheetHeading,
    SheetTable,
    SheetText,
    require_format,
    require_supported,
    write_sheet,
)
from expunge.provenance.keys import existing_key
from expunge.utils.io import AnyPath

SCHEMA = "expunge.annex/1"
"""Name and version of the layout of an annex as JSON."""

CAUTION = (
    "Paragraph and article numbers are second hand. Check each against the official text before "
    "you rely on it. This annex is not legal advice."
)
"""Printed on the first page of every annex."""

_FILE = Path(__file__).with_name("questions.toml")
_PARTS: Mapping[str, str] = {
    "edpb-46": "EDPB Opinion 28/2024: release context",
    "edpb-55": "EDPB Opinion 28/2024: tests",
    "edpb-58": "EDPB Opinion 28/2024: documentation",
    "cnil": "CNIL: rights of the person",
    "code": "GPAI Code of Practice",
    "ftc": "Algorithmic disgorgement",
}
"""Beginning of the ids of questions to the heading above them, in the order of the annex."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthorityQuestion:
    """A question, where it comes from, and the field of a run that answers it.

    Example:
        >>> len(questions())
        40
    """

    id: str
    question: str
    source: str
    field: str


@cache
def questions() -> tuple[AuthorityQuestion, ...]:
    """Return the questions in the order of the annex."""
    rows = tomllib.loads(_FILE.read_text(encoding="utf-8"))["question"]
    return tuple(AuthorityQuestion(**row) for row in rows)


def annex(
    run: AnyPath,
    *,
    out: AnyPath | None = None,
    declare: Sequence[str] = (),
    day: date | None = None,
) -> Path:
    """Write the annex for an authority, and return its path.

    Args:
        run: The folder of a finished run.
        out: The file; its ending chooses Markdown, HTML, PDF or JSON. None: Markdown beside the
            run folder.
        declare: What only the operator knows, `FIELD=TEXT` each.
        day: The date of the annex; None: today.

    Raises:
        InputError: The run has not ended, was changed, or is none.
        UsageError: The format is unknown, or a declaration is not of its kind.

    Example:
        >>> annex(Path("no-such-run"))
        Traceback (most recent call last):
            ...
        expunge.errors.InputError: error[no-run]: no-such-run is not a run folder...
    """
    run = Path(run)
    out = None if out is None else Path(out)
    path = out or default_path(run, "annex.md")
    require_format(path)
    declared = declarations(declare)
    record = read_record(run, key=existing_key(run))
    rows = attack_table(record)
    found = answers(record, rows, declared)
    today = day or datetime.now(UTC).date()
    # What the operator declares and the name of the approver claim nothing for the run.
    bare = replace(record, approval=None)
    own = annex_sheet(bare, rows, answers(bare, rows, {}), day=today)
    require_supported(own, level=record.claim.level, passed=record.passed)
    sheet = annex_sheet(record, rows, found, day=today)
    write_sheet(sheet, path, data=annex_json(record, rows, found, sheet.day))
    return path


def annex_sheet(
    record: RunRecord,
    rows: Sequence[AttackRow],
    found: Mapping[str, FieldAnswer],
    *,
    day: date,
) -> Sheet:
    """Return the annex as a document."""
    verdict = record.results.verdict
    head = (
        f"Run {record.run_id} of {record.made}, expunge {record.version}. "
        f"Verdict {verdict.ruling}{' (provisional)' if verdict.provisional else ''}. "
        f"Claim {record.claim.level}: {record.claim.words}.\nManifest {record.digest}."
    )
    blocks: list[SheetBlock] = [SheetText(text=head), SheetText(text=CAUTION)]
    if record.no_evidence:
        lacking = (
            f"Counts are missing: {record.no_evidence}. What stands in the results is repeated."
        )
        blocks.append(SheetText(text=lacking))
    for start, title in _PARTS.items():
        asked = [each for each in questions() if each.id.startswith(start)]
        blocks += [SheetHeading(text=title), _answered(asked, found)]
        if start == "edpb-55":
            blocks += _tables(rows)
    return Sheet(title="Annex for the supervisory authority", day=day, blocks=tuple(blocks))


def annex_json(
    record: RunRecord, rows: Sequence[AttackRow], found: Mapping[str, FieldAnswer], day: date
) -> dict[str, Any]:
    """Return the annex as JSON values: the numbers of an attack that was not executed are null."""
    return {
        "schema": SCHEMA,
        "date": day.isoformat(),
        "run": record.run_id,
        "manifest": record.digest,
        "ruling": str(record.results.verdict.ruling),
        "claim": record.claim.to_json(),
        "caution": CAUTION,
        "attacks": [_attack_json(row) for row in rows],
        "questions": [
            {
                **asdict(each),
                "status": _status(found[each.field]),
                "answer": found[each.field].text or None,
                "reason": found[each.field].reason or None,
            }
            for each in questions()
        ],
    }


def _status(found: FieldAnswer) -> str:
    return "answered" if found.answered else "not answered"


def _answered(asked: Sequence[AuthorityQuestion], found: Mapping[str, FieldAnswer]) -> SheetTable:
    rows: list[tuple[str, ...]] = []
    for each in asked:
        said = found[each.field]
        text = said.text or f"Not answered, because {said.reason}."
        rows.append((each.question, f"{each.source} [{each.field}]", text))
    head = ("Question", "Source [field of the run]", "Answer")
    return SheetTable(head=head, rows=tuple(rows), widths=(27, 23, 50))


def _tables(rows: Sequence[AttackRow]) -> list[SheetBlock]:
    """Return a table for each class of attacks."""
    head = ("Attack", "Status", "Facts", "Came back", "Reference", "Judged, or why not")
    blocks: list[SheetBlock] = [
        SheetText(
            text="The tables list every attack that this version knows. The assignment to classes "
            "is that of expunge. An attack that was not run shows nothing about the model."
        )
    ]
    for group, (place, words) in CLASSES.items():
        own = tuple(row_words(row) for row in rows if row.group == group)
        blocks += [
            SheetText(text=f"Para {place}, {words}"),
            SheetTable(head=head, rows=own, widths=(27, 16, 9, 11, 11, 26)),
        ]
    return blocks


def _attack_json(row: AttackRow) -> dict[str, Any]:
    after, gold = row.after, row.gold
    return {
        "attack": row.attack,
        "class": row.group,
        "paragraph": CLASSES[row.group][0],
        "status": row.status.value,
        "reason": row.reason or None,
        "facts": row.facts,
        "came_back": after.returned if after else None,
        "asked": after.facts if after else None,
        "upper_bound_95": row.bound,
        "reference_came_back": gold.returned if gold else None,
        "judged": row.judged or None,
    }
