"""Forms in which facts are written: numbers in words, dates, amounts, codes, e-mail addresses.

Everything here works on the words of `fact_form` (case folded, plain letters, no punctuation), so
that the fact and what was said about it are read by the same rules.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = (
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
)  # fmt: skip
_SMALL = {
    **{word: value for value, word in enumerate(_UNITS)},
    **{word: 20 + 10 * index for index, word in enumerate(_TENS)},
}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000, "billion": 1_000_000_000}
_SUFFIXES = {"k": 1e3, "m": 1e6, "bn": 1e9}
_DIGITS = {word: str(value) for word, value in _SMALL.items() if value < 10} | {"oh": "0"}
_REPEATS = {"double": 2, "triple": 3}
_ORDINAL = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth",
    "tenth", "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth",
    "seventeenth", "eighteenth", "nineteenth", "twentieth",
)  # fmt: skip
_ORDINALS = {word: value for value, word in enumerate(_ORDINAL, start=1)} | {"thirtieth": 30}
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
_MONTH = {
    form: number
    for number, month in enumerate(_MONTHS, start=1)
    for form in {month, month[:3], month[:4] if month == "september" else month}
}
_DAY = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?")
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)(k|m|bn)?")
_SPELT = (
    (re.compile(r"\s*[\[({<]\s*at\s*[\])}>]\s*", re.IGNORECASE), "@"),
    (re.compile(r"\s*[\[({<]\s*(?:dot|point)\s*[\])}>]\s*", re.IGNORECASE), "."),
    (re.compile(r"(?<=\w)\s+dot\s+(?=\w)", re.IGNORECASE), "."),
)
_SPOKEN_AT = re.compile(r"(?<=\w)\s+at\s+(?=[\w-]+\.\w)", re.IGNORECASE)

SHORT = 4
"""Letters up to which a word may be part of a code: `DFF 596`."""


class Date(NamedTuple):
    """A date or a part of one; None where a part is not said.

    Example:
        >>> Date(month=3, year=1946)
        Date(day=None, month=3, year=1946)
    """

    day: int | None = None
    month: int | None = None
    year: int | None = None


def dates(words: Sequence[str]) -> list[Date]:
    """Return every date that the words can be read as, in parts where only parts are said.

    `8 march 1946`, `march 8th 1946`, `1946 03 08`, `08 03 1946` (read both ways), `march 1946`,
    `8 march`, `the eighth of march`, `1946`. A year has four digits, from 1000 to 2099.

    Example:
        >>> Date(day=8, month=3, year=1946) in dates(["march", "8th", "1946"])
        True
    """
    found: list[Date] = []
    used: set[int] = set()
    for place in range(len(words) - 2):
        read = _numeric(words[place : place + 3])
        if read:
            found += read
            used |= {place, place + 1, place + 2}
    for place, word in enumerate(words):
        if word in _MONTH and place not in used:
            date, taken = _around(words, place)
            found.append(date)
            used |= taken
    found += [
        Date(year=int(word))
        for place, word in enumerate(words)
        if place not in used and _is_year(word)
    ]
    return found


def _is_year(word: str) -> bool:
    return len(word) == 4 and word.isdecimal() and 1000 <= int(word) <= 2099


def _numeric(words: Sequence[str]) -> list[Date]:
    """Read three numbers as a date, in each order in which they can be one."""
    if not all(word.isdecimal() and len(word) in (1, 2, 4) for word in words):
        return []
    first, second, third = words
    if _is_year(first):
        orders = [(third, second, first), (second, third, first)]
    elif _is_year(third):
        orders = [(first, second, third), (second, first, third)]
    else:
        return []
    return [
        Date(int(day), int(month), int(year))
        for day, month, year in orders
        if len(day) < 3 and len(month) < 3 and 1 <= int(day) <= 31 and 1 <= int(month) <= 12
    ]


def _around(words: Sequence[str], place: int) -> tuple[Date, set[int]]:
    """Complete the month at `place` by the nearest day, and by a year close behind or before."""
    day, year = None, None
    taken = {place}
    for near in (place - 1, place + 1, place - 2, place + 2):
        if day is None and 0 <= near < len(words) and (found := _day(words, near)):
            day, taken = found, taken | {near}
    for near in (place + 1, place + 2, place + 3, place - 1, place - 2):
        if year is None and 0 <= near < len(words) and _is_year(words[near]):
            year, taken = int(words[near]), taken | {near}
    return Date(day, _MONTH[words[place]], year), taken


def _day(words: Sequence[str], place: int) -> int | None:
    word = words[place]
    if match := _DAY.fullmatch(word):
        return int(match[1]) if 1 <= int(match[1]) <= 31 else None
    before = words[place - 1] if place else ""
    if word in _ORDINALS:
        return _ORDINALS[word] + (_SMALL[before] if before in _TENS else 0)
    return None


def is_date(words: Sequence[str]) -> bool:
    """Tell whether the words are a date with its month, and nothing besides.

    Example:
        >>> is_date(["8", "march", "1946"]), is_date(["1946"])
        (True, False)
    """
    found = dates(words)
    plain = {"the", "of", "on", "in"}
    rest = [
        place
        for place, word in enumerate(words)
        if word not in plain and word not in _MONTH and not _day(words, place)
        and not _is_year(word) and word not in _TENS
    ]  # fmt: skip
    return not rest and any(date.month and (date.day or date.year) for date in found)


def amounts(words: Sequence[str]) -> list[float]:
    """Return every number that the words state: `35900`, `35 900`, `35.9k`, in words too.

    Example:
        >>> 35900.0 in amounts(["35", "900"])
        True
        >>> 1284.0 in amounts(["twelve", "hundred", "and", "eighty", "four"])
        True
    """
    found: list[float] = []
    for place, word in enumerate(words):
        if match := _AMOUNT.fullmatch(word):
            behind = words[place + 1] if place + 1 < len(words) else ""
            scale = _SUFFIXES.get(match[2], 1.0) * (_SCALES.get(behind, 1))
            found.append(float(match[1]) * scale)
            if (group := _grouped(words, place)) is not None:
                found.append(group)
    return found + list(_in_words(words))


def _grouped(words: Sequence[str], place: int) -> float | None:
    """Read `35 900` as one number."""
    if len(words[place]) > 3 or not words[place].isdecimal():
        return None
    digits = words[place]
    for word in words[place + 1 :]:
        if len(word) != 3 or not word.isdecimal():
            break
        digits += word
    return float(digits) if digits != words[place] else None


def _in_words(words: Sequence[str]) -> Iterator[float]:
    """Read numbers written in words: `twelve hundred and eighty four` is 1284."""
    total, current, open_ = 0, 0, False
    for place, word in enumerate([*words, ""]):
        if word in _SMALL:
            current, open_ = current + _SMALL[word], True
        elif word == "hundred" and open_:
            current = max(1, current) * 100
        elif word in _SCALES and open_:
            total, current = total + max(1, current) * _SCALES[word], 0
        elif word == "and" and open_ and place + 1 < len(words) and words[place + 1] in _SMALL:
            continue
        else:
            if open_:
                yield float(total + current)
            total, current, open_ = 0, 0, False


def codes(words: Sequence[str], *, letters: bool) -> list[str]:
    """Return the codes that the words hold, groups joined: `555 72 33`, `d f f 5 9 6`.

    Args:
        words: What was said.
        letters: Whether short words may be part of a code.

    Example:
        >>> codes(["555", "72", "33"], letters=False)
        ['5557233']
    """
    found: list[str] = []
    current = ""
    for word in [*_dialled(words), ""]:
        if any(map(str.isdigit, word)) or (letters and 0 < len(word) <= SHORT):
            current += word
        elif current:
            found.append(current)
            current = ""
    return [code for code in found if letters or any(map(str.isdigit, code))]


def _dialled(words: Sequence[str]) -> list[str]:
    """Turn digits that are spoken one by one into figures: `double oh seven`, `five five`."""
    found: list[str] = []
    times = 1
    for place, word in enumerate(words):
        behind = words[place + 1] if place + 1 < len(words) else ""
        if word in _REPEATS and behind in _DIGITS:
            times = _REPEATS[word]
        else:
            found.append(_DIGITS[word] * times if word in _DIGITS else word)
            times = 1
    return found


def email_written(text: str) -> str:
    """Write spoken marks of e-mail addresses as marks: `a dot b at c dot example`.

    Example:
        >>> email_written("a dot b at c dot example")
        'a.b@c.example'
    """
    for form, mark in _SPELT:
        text = form.sub(mark, text)
    return _SPOKEN_AT.sub("@", text)
