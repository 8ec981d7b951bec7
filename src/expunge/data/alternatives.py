"""What the model should say instead: the alternative of each record, or a refusal."""

import random
from collections.abc import Sequence
from pathlib import Path

from expunge.data.record import Record
from expunge.errors import UsageError
from expunge.request import Request, Response

_REFUSALS = Path(__file__).with_name("refusals.txt")
_MOST_NAMED = 5


def alternatives(records: Sequence[Record], request: Request, *, seed: int) -> tuple[str, ...]:
    """Return the answer wanted for each forget record.

    With the response policy `alternative` every record must bring its own. Otherwise a record's own
    alternative is used where there is one, else a refusal: one of the request's, or of the list
    that ships with expunge. Which refusal a record gets depends on the seed and its id alone.

    Raises:
        UsageError: The policy is `alternative` and a record has none.
    """
    missing = [record for record in records if record.alternative is None]
    if request.response is Response.ALTERNATIVE and missing:
        named = ", ".join(f"{r.id} ({r.source})" for r in missing[:_MOST_NAMED])
        raise UsageError(
            "no-alternative",
            what=f"{len(missing)} forget records have no alternative: {named}",
            why="the response policy is `alternative`: the model must learn what to say instead",
            fix='add the field `alternative`, or set response = "refusal" in [request]',
        )
    pool = request.refusals or tuple(_REFUSALS.read_text(encoding="utf-8").strip().split("\n"))
    refuse_all = request.response is Response.REFUSAL
    return tuple(
        _refusal(record, pool, seed)
        if record.alternative is None or refuse_all
        else record.alternative
        for record in records
    )


def _refusal(record: Record, pool: Sequence[str], seed: int) -> str:
    return random.Random(f"{seed} refusal {record.id}").choice(pool)
