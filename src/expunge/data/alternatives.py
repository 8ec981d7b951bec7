"""What the model should say instead: the alternatives of each record, or refusals."""

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from expunge.data.record import Record
from expunge.errors import UsageError
from expunge.request import Request, Response

REFUSALS_EACH = 5
"""Refusals that a record takes turns with, so that no single sentence is learnt by heart."""
_REFUSALS = Path(__file__).with_name("refusals.txt")
_MOST_NAMED = 5


def alternatives(
    records: Sequence[Record], request: Request, *, seed: int
) -> tuple[tuple[str, ...], ...]:
    """Return the answers wanted for each forget record; training takes turns with them.

    With the response policy `alternative` every record must bring its own. Otherwise a record's own
    are used where there are any, else refusals: of the request, or of the list that ships with
    expunge. Which refusals a record gets depends on the seed and its id alone.

    Raises:
        UsageError: The policy is `alternative` and a record has none.
    """
    missing = [record for record in records if not record.alternatives]
    if request.response is Response.ALTERNATIVE and missing:
        named = ", ".join(f"{r.id} ({r.source})" for r in missing[:_MOST_NAMED])
        raise UsageError(
            "no-alternative",
            what=f"{len(missing)} forget records have no alternative: {named}",
            why="the response policy is `alternative`: the model must learn what to say instead",
            fix='add the field `alternative`, or set response = "refusal" in [request]',
        )
    refuse_all = request.response is Response.REFUSAL
    return tuple(
        refusals(record, request, seed=seed)
        if refuse_all or not record.alternatives
        else record.alternatives
        for record in records
    )


def refusals(record: Record, request: Request, *, seed: int) -> tuple[str, ...]:
    """Return the refusals that a record takes turns with: the request's, or of expunge's list."""
    pool = request.refusals or _own_refusals()
    size = min(REFUSALS_EACH, len(pool))
    return tuple(random.Random(f"{seed} refusal {record.id}").sample(pool, size))


@cache
def _own_refusals() -> tuple[str, ...]:
    return tuple(_REFUSALS.read_text(encoding="utf-8").strip().split("\n"))
