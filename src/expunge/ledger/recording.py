"""What a person enters: the checks that a request must pass, and how models are named."""

from dataclasses import replace
from datetime import date

from expunge.errors import InputError, UsageError
from expunge.ledger.deadlines import usual_deadline
from expunge.ledger.entries import Decision, EntryKind, LegalBasis, RequestEntry
from expunge.ledger.store import LedgerWriter, unknown_entry

_LEAST_DIGITS = 8
"""Of a digest that is cut short."""


def record_request(
    writer: LedgerWriter, request: RequestEntry, *, today: date, late: bool = False
) -> str:
    """Add or amend a request, and return its id.

    Args:
        writer: Of the ledger.
        request: The request; where it names no deadline, it has that of the law.
        today: The day by which it is checked.
        late: Take an open request although its deadline has passed.

    Raises:
        UsageError: Its days or its decision contradict each other.
        InputError: It names what the ledger does not have.
    """
    usual = usual_deadline(request.basis, request.received, extended=request.extended)
    if request.due is None:
        request = replace(request, due=usual)
    _require_days(request, today)
    _require_deadline(request, today, late=late)
    _require_decision(request)
    return writer.add(request)


def _require_days(request: RequestEntry, today: date) -> None:
    """Refuse days that lie in the future, or before the request came in."""
    for name, day in (("received", request.received), ("answered", request.answered)):
        if day is not None and day > today:
            raise _contradiction(f"{name} {day} is in the future", "the ledger says what happened")
    if request.answered is not None and request.answered < request.received:
        raise _contradiction(
            f"answered {request.answered} is before received {request.received}",
            "nobody can answer what has not come in",
        )


def _require_deadline(request: RequestEntry, today: date, *, late: bool) -> None:
    if request.due is None and request.basis is not LegalBasis.UNSTATED:
        raise UsageError(
            "no-deadline",
            what=f"a request on the basis {request.basis} has no usual deadline",
            why="only Art. 17 GDPR sets one: a month from receipt",
            fix="name it: --due 2026-01-31",
        )
    if request.due is None:
        return
    is_past = request.is_open and request.due < today and not late
    if request.due < request.received or is_past:
        before = "today" if is_past else f"the receipt, {request.received}"
        raise UsageError(
            "deadline-past",
            what=f"the deadline {request.due} is before {before}",
            why="a mistyped day would be missed without a word",
            fix="check --received and --due; if it is answered, add --answered and --decision;"
            " if it is open and overdue, add --late",
        )


def _require_decision(request: RequestEntry) -> None:
    if (request.answered is None) != (request.decision is Decision.OPEN):
        raise _contradiction(
            "an answer needs both a day and a decision",
            "a request is open, or it was answered in some way",
        )
    limited = request.decision in (Decision.REFUSED, Decision.PARTLY)
    if request.exemptions and not limited:
        raise _contradiction(
            f"exemptions do not fit the decision {request.decision}",
            "an exemption is the reason for a refusal, in whole or in part",
        )
    if request.extended and request.basis is not LegalBasis.ART_17:
        raise _contradiction(
            f"a request on the basis {request.basis} cannot be extended",
            "Art. 12(3) GDPR extends the time of Art. 17 alone",
        )


def _contradiction(what: str, why: str) -> UsageError:
    fix = "check the days, --decision, --exemption and --extended; see `expunge ledger --help`"
    return UsageError("request-contradicts", what=what, why=why, fix=fix)


def model_digest(writer: LedgerWriter, named: str) -> str:
    """Return the digest of a model of the ledger.

    Args:
        writer: Of the ledger.
        named: Its id, its digest, or the first eight or more digits of that; empty: no model.

    Raises:
        InputError: `unknown-model`: the ledger has none such, or several.
    """
    if not named:
        return ""
    for digest, model in writer.models().items():
        if named in (model.id, digest):
            return digest
    short = named.lower()
    near = [each for each in writer.models() if each.startswith(short)]
    if len(near) == 1 and len(short) >= _LEAST_DIGITS:
        return near[0]
    what = f"{len(near)} models begin with {named}" if near else f"the ledger has no model {named}"
    raise InputError(
        "unknown-model",
        what=what,
        why="a model is named by its id, its digest, or the first digits of that",
        fix="expunge ledger show --kind model; expunge ledger add model DIGEST, or import its run",
    )


def held_request(writer: LedgerWriter, name: str) -> RequestEntry:
    """Return a request of the ledger by its id.

    Raises:
        InputError: `unknown-entry`.
    """
    found = writer.current(EntryKind.REQUEST).get(name)
    if not isinstance(found, RequestEntry):
        raise unknown_entry(name)
    return found
