"""Deadlines: by when a request must be answered.

Art. 12(3) GDPR: one month from receipt, and two more where the operator extends it. A month ends on
the day of the same number, or on the last day of a shorter month. Weekends and holidays are not
counted: where the law of a place moves the day, give it with `--due`. Other requests have the
deadline that they name.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from expunge.ledger.entries import LegalBasis, RequestEntry
from expunge.utils.dates import months_later

_MONTHS, _EXTENDED = 1, 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Deadline:
    """An open request, and how long there is to answer it."""

    request: RequestEntry
    days: int | None
    """Until the deadline; below zero: it has passed; None: the request has none."""

    @property
    def overdue(self) -> bool:
        """Whether it has passed."""
        return self.days is not None and self.days < 0


def usual_deadline(basis: LegalBasis, received: date, *, extended: bool) -> date | None:
    """Return the deadline that the law sets; None where it sets none.

    Example:
        >>> usual_deadline(LegalBasis.ART_17, date(2026, 1, 31), extended=True)
        datetime.date(2026, 4, 30)
    """
    if basis is not LegalBasis.ART_17:
        return None
    return months_later(received, _EXTENDED if extended else _MONTHS)


def deadlines(requests: Iterable[RequestEntry], *, today: date) -> tuple[Deadline, ...]:
    """Return the open requests: overdue ones first, then the nearest, at last those without a day.

    Example:
        >>> late = RequestEntry(
        ...     basis=LegalBasis.ART_17, received=date(2026, 1, 1), due=date(2026, 2, 1)
        ... )
        >>> [each.days for each in deadlines([late], today=date(2026, 2, 3))]
        [-2]
    """
    found = [
        Deadline(request=each, days=None if each.due is None else (each.due - today).days)
        for each in requests
        if each.is_open
    ]
    return tuple(sorted(found, key=lambda each: (each.days is None, each.days or 0)))
