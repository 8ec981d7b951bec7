"""Which records ask the same: what an unseen record tells of one that was seen.

Two questions ask the same when they share at least half of their words, names of the subjects not
counted: |A and B| / |A or B| >= 1/2. How surprising an answer is depends on what is asked (a
salary is easily guessed, an employer is not), so a mean over all of them fits few.
"""

import re
from collections.abc import Sequence

from expunge.data.record import Record

SHARED = 0.5
_WORD = re.compile(r"\w+")


def alike(forget: Sequence[Record], others: Sequence[Record]) -> dict[str, tuple[int, ...]]:
    """Return for each forget record, by its id, the indices of the others that ask the same."""
    words = [_words(record) for record in others]
    found: dict[str, tuple[int, ...]] = {}
    for record in forget:
        own = _words(record)
        found[record.id] = tuple(
            index
            for index, other in enumerate(words)
            if own and len(own & other) >= SHARED * len(own | other)
        )
    return found


def _words(record: Record) -> frozenset[str]:
    """Return the words of a question without those of its subject's name; none for a passage."""
    named = _WORD.findall((record.subject or "").casefold())
    return frozenset(_WORD.findall(record.question.casefold())) - frozenset(named)
