"""Word lists that ship with expunge: common English words, and common names."""

from functools import cache
from pathlib import Path

_CORPORA = Path(__file__).parent / "corpora"


@cache
def common_words() -> tuple[str, ...]:
    """Return the 12,000 most common English words that are no names, most frequent first.

    `scripts/make_common_words.py` says from which texts they were counted.
    """
    return tuple((_CORPORA / "common_words.txt").read_text(encoding="utf-8").split())


@cache
def common_names() -> tuple[str, ...]:
    """Return common given names, then common surnames."""
    return tuple((_CORPORA / "names.txt").read_text(encoding="utf-8").split())
