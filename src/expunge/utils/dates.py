"""Dates: months are counted as the law counts them; days and times are written in one way."""

from calendar import monthrange
from datetime import UTC, date, datetime

from expunge.errors import UsageError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def today() -> date:
    """Return the day where this machine is."""
    return datetime.now(UTC).astimezone().date()


def months_later(day: date, months: int) -> date:
    """Return the same day so many months later, or the last of that month.

    Example:
        >>> months_later(date(2027, 1, 31), 1)
        datetime.date(2027, 2, 28)
    """
    years, month = divmod(day.month - 1 + months, 12)
    year = day.year + years
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def day_of(text: str, option: str) -> date:
    """Return the day that an option gives.

    Args:
        text: As it was typed.
        option: Its name, for the message.

    Raises:
        UsageError: `not-a-day`: it is not written as YYYY-MM-DD, or there is no such day.

    Example:
        >>> day_of("2026-01-31", "--received")
        datetime.date(2026, 1, 31)
    """
    try:
        found = date.fromisoformat(text.strip())
        if found.isoformat() != text.strip():
            raise ValueError("another format")
    except ValueError:
        raise UsageError(
            "not-a-day",
            what=f"{option} {text!r} is not a day",
            why="days are written as in ISO 8601: year, month, day",
            fix=f"write for example {option} 2026-01-31",
        ) from None
    return found


def seconds_of(text: str, option: str) -> float:
    """Return the length of time that an option gives, in seconds.

    Args:
        text: As it was typed: a number and one of s, m, h, d.
        option: Its name, for the message.

    Raises:
        UsageError: `not-a-time`: it is written otherwise, or not above zero.

    Example:
        >>> seconds_of("12h", "--every")
        43200.0
    """
    number, unit = text.strip()[:-1], _UNITS.get(text.strip()[-1:])
    if unit is None or not number.isdecimal() or int(number) == 0:
        raise UsageError(
            "not-a-time",
            what=f"{option} {text!r} is not a length of time",
            why="it is a whole number and a unit: s, m, h or d",
            fix=f"write for example {option} 1d",
        )
    return int(number) * unit
