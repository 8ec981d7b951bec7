"""General prose that ships with expunge: the text on which perplexity is measured."""

from dataclasses import replace
from pathlib import Path

from expunge.data.read import read
from expunge.data.record import Record

_GENERIC = Path(__file__).with_name("generic.jsonl")


def generic_records() -> tuple[Record, ...]:
    """Return the passages, each of another kind of text and about something else."""
    return tuple(
        replace(record, id=f"generic-{index}")
        for index, record in enumerate(read([str(_GENERIC)]).records, start=1)
    )
