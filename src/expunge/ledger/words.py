"""Entries in words, for the terminal: every field that says something, in its order."""

from dataclasses import fields
from datetime import date

from expunge.ledger.entries import Entry

_SHORT = 12
"""Digits of a digest or a keyed hash that are shown."""


def in_words(entry: Entry) -> str:
    """Return an entry in one line.

    Example:
        >>> from expunge.ledger.entries import ArtefactEntry, ArtefactKind
        >>> in_words(ArtefactEntry(type=ArtefactKind.CACHE))
        'type cache, contains unknown, action none'
    """
    parts: list[str] = []
    for field in fields(entry):
        value: object = getattr(entry, field.name)
        name = field.name.replace("_", " ")
        if field.name == "id" or value in ("", None, False, ()):
            continue
        if value is True:
            parts.append(name)
        elif isinstance(value, tuple) and field.name == "records":
            parts.append(f"{len(value)} records")  # type: ignore[arg-type]
        elif isinstance(value, tuple):
            parts.append(f"{name} {', '.join(_short(each) for each in value)}")
        else:
            parts.append(f"{name} {_short(value)}")
    return ", ".join(parts)


def _short(value: object) -> str:
    text = value.isoformat() if isinstance(value, date) else str(value)
    is_hash = len(text) >= 32 and set(text) <= set("0123456789abcdef")
    return text[:_SHORT] if is_hash else text
