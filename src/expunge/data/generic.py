"""General prose that ships with expunge: the text on which perplexity is measured."""

from pathlib import Path

from expunge.data.record import Record

_GENERIC = Path(__file__).with_name("generic.txt")


def generic_records() -> tuple[Record, ...]:
    """Return the passages, one a paragraph."""
    passages = _GENERIC.read_text(encoding="utf-8").strip().split("\n\n")
    return tuple(
        Record(id=f"generic-{index}", prompt=(), completion=" ".join(passage.split()))
        for index, passage in enumerate(passages, start=1)
    )
