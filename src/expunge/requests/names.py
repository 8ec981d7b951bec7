"""Names: in how many ways a text may write the name of one person."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from expunge.errors import InputError, UsageError
from expunge.requests.unspaced import UNSPACED, begins_longer, is_unspaced
from expunge.utils.io import did_you_mean, expanded
from expunge.utils.spelling import edit_distance

_WORD = re.compile(
    rf"[{UNSPACED}]|[^\W_{UNSPACED}]+(?:['’](?!s\b)[^\W_{UNSPACED}]{{2,}})*"  # noqa: RUF001 - both occur
)
_LETTERS = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "æ": "ae", "œ": "oe", "þ": "th"})
_FILE = re.compile(r"[/\\]|\.(?:txt|md)$", re.IGNORECASE)
_BETWEEN = 2
"""Most words between a first and a last name: middle names, particles."""
MOST_EDITS = 3
"""Most edits in a whole name."""


class MentionKind(StrEnum):
    """How a document mentions the person."""

    EXACT = "exact"
    ALIAS = "alias"
    SPELLING = "spelling"
    INITIALS = "initials"
    SURNAME = "surname"
    GIVEN = "given name"
    FOLLOWS = "next row"
    QUOTED = "quoted"
    COPY = "near-duplicate"
    IDENTIFIER = "identifier"


class Word(NamedTuple):
    """One word of a text."""

    text: str
    folded: str
    start: int
    end: int

    @property
    def capital(self) -> bool:
        """Whether it begins with a capital letter."""
        return self.text[0].isupper()


class NameMention(NamedTuple):
    """Where a name stands: words `first` to `stop`, and how it is written."""

    kind: MentionKind
    first: int
    stop: int
    edits: int
    odd: tuple[str, ...] = ()
    """The folded words that are spelt differently."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchedPerson:
    """Whom to look for.

    Example:
        >>> SearchedPerson(name="Lin Aro", identifiers=("lin@post.example",)).aliases
        ()
    """

    name: str
    aliases: tuple[str, ...] = ()
    identifiers: tuple[str, ...] = ()
    """E-mail addresses, numbers, or other values that nobody else has."""


def searched_person(
    text: str, *, aliases: Sequence[str] = (), identifiers: Sequence[str] = ()
) -> SearchedPerson:
    """Return whom a name, or a file with one name or identifier a line, asks for.

    The first line of a file is the name. Lines with `@` or three digits are identifiers, all
    others aliases.

    Args:
        text: The name, or the path of a text file.
        aliases: Other names.
        identifiers: Values that only this person has.

    Raises:
        InputError: `no-name-file`: it is the path of a file that is not there.
        UsageError: `no-name`: there is no word in it. `name-too-short`: it is one letter.

    Example:
        >>> searched_person("Lin Aro", aliases=["Lina"]).aliases
        ('Lina',)
    """
    lines = _lines_of(text)
    if not lines or not _WORD.search(lines[0]):
        raise UsageError(
            "no-name",
            what="the request names nobody",
            why="there is no word in the name",
            fix='expunge request "First Last" --corpus FOLDER --out request',
        )
    if is_one_letter(lines[0]):
        raise UsageError(
            "name-too-short",
            what="the name is one letter",
            why="nearly every text has it",
            fix="give the full name as documents write it",
        )
    marked = [line for line in lines[1:] if "@" in line or len(re.findall(r"\d", line)) >= 3]
    return SearchedPerson(
        name=" ".join(lines[0].split()),
        aliases=(*aliases, *(line for line in lines[1:] if line not in marked)),
        identifiers=(*identifiers, *marked),
    )


def _lines_of(text: str) -> list[str]:
    """Return the lines of a file with a name, or the name itself."""
    path = expanded(text) if len(text.encode()) < 255 else None
    lines = [text.strip()]
    if path is not None and path.is_file():
        try:
            given = path.read_text(encoding="utf-8-sig").splitlines()
        except (UnicodeDecodeError, OSError) as error:
            raise InputError(
                "unreadable",
                what=f"{path}: cannot be read",
                why=type(error).__name__,
                fix="write one name, alias or identifier a line, in UTF-8",
            ) from None
        lines = [line.strip() for line in given if line.strip()]
    elif _FILE.search(lines[0]):
        raise InputError(
            "no-name-file",
            what="there is no file of that name",
            why="the name ends as a text file does, or holds a stroke, and no person is called so",
            fix=did_you_mean(lines[0], "check the path, or give the name of the person"),
        )
    return lines


@lru_cache(maxsize=1 << 17)
def fold(text: str) -> str:
    """Return a text without case, accents and strokes.

    Example:
        >>> fold("Łódź"), fold("Groß")
        ('lodz', 'gross')
    """
    plain = unicodedata.normalize("NFKD", text.casefold().translate(_LETTERS))
    return "".join(c for c in plain if c not in "'’" and not unicodedata.combining(c))  # noqa: RUF001


def words_of(text: str) -> list[Word]:
    """Return the words of a text; hyphens part them, and so does the apostrophe of a genitive.

    Example:
        >>> [word.folded for word in words_of("Anne-Marie's O'Brien")]
        ['anne', 'marie', 's', 'obrien']
    """
    return [Word(m.group(), fold(m.group()), m.start(), m.end()) for m in _WORD.finditer(text)]


def is_one_letter(name: str) -> bool:
    """Tell whether a name is a single letter or digit, of a script in which names have more.

    Example:
        >>> is_one_letter("J."), is_one_letter("Jo"), is_one_letter("李")
        (True, False, False)
    """
    joined = "".join(word.folded for word in words_of(name))
    return len(joined) == 1 and (joined.isdigit() or joined.upper() != joined)


def allowed_edits(word: str) -> int:
    """Return how many edits a word may have and still be a spelling of a name."""
    return 0 if len(word) < 3 else 1 if len(word) < 6 else 2


@lru_cache(maxsize=1 << 18)
def edits_between(word: str, part: str) -> int | None:
    """Return the edits from a part of a name to a word; None where there are too many.

    A genitive `s` is none. The first letters may differ only by a swap or a doubled letter, or
    where all else agrees. A scan may read a letter as a figure: `St0ne`.
    """
    if word == part or word == f"{part}s":
        return 0
    allowed = allowed_edits(part)
    if not allowed or abs(len(word) - len(part)) > allowed or len(word) < 3:
        return None
    edits = edit_distance(part, word)
    if edits > allowed or (edits > 1 and word[0] != part[0]):
        return None
    return edits


class NameShape:
    """The folded parts of a name.

    Args:
        name: As it is written in full.
    """

    def __init__(self, name: str) -> None:
        parts = [word.folded for word in words_of(name)]
        self.parts = tuple(parts)
        self.last = parts[-1]
        self.given = tuple(parts[:-1])
        self.joined = "".join(parts)

    def mentions(self, words: Sequence[Word]) -> Iterator[NameMention]:
        """Yield where a text has the name, the surest way of writing it first at each place."""
        if is_unspaced(self.parts):
            yield from self._letters_in(words)
            return
        for place, word in enumerate(words):
            found = self._joined_at(words, place)
            if found is None and (edits := edits_between(word.folded, self.last)) is not None:
                found = self._around(words, place, edits)
            if found is None and self.given and word.folded in (self.given[0], f"{self.given[0]}s"):
                found = NameMention(MentionKind.GIVEN, place, place + 1, 0)
            if found is not None:
                yield found

    def _letters_in(self, words: Sequence[Word]) -> Iterator[NameMention]:
        """Find a name of letters that are words each, but not the beginning of a longer one."""
        count = len(self.parts)
        for place in range(len(words) - count + 1):
            if all(words[place + i].folded == part for i, part in enumerate(self.parts)):
                behind = words[place + count : place + count + 2]
                ends = (words[place + count - 1].end, *(word.end for word in behind))
                near = [w.text for w, end in zip(behind, ends, strict=False) if w.start == end]
                if not begins_longer(near):
                    yield NameMention(MentionKind.EXACT, place, place + count, 0)

    def _joined_at(self, words: Sequence[Word], place: int) -> NameMention | None:
        """Find the name written together or apart: `Annemarie`, `elinmarrow`."""
        if len(self.joined) < 6:
            return None
        text = ""
        for stop in range(place, min(place + len(self.parts) + 2, len(words))):
            text += words[stop].folded
            if text == self.joined:
                same = stop + 1 - place == len(self.parts)
                kind = MentionKind.EXACT if same else MentionKind.SPELLING
                return NameMention(kind, place, stop + 1, 0)
            if not self.joined.startswith(text):
                return None
        return None

    def _around(self, words: Sequence[Word], place: int, edits: int) -> NameMention | None:
        """Look for the first name, or its initial, before a last name and behind its comma."""
        odd = (words[place].folded,) if edits else ()
        if not self.given:
            kind = MentionKind.SPELLING if edits else MentionKind.EXACT
            return NameMention(kind, place, place + 1, edits, odd)
        for first in range(place - 1, max(-1, place - 2 - _BETWEEN), -1):
            if found := self._given_at(words, first, edits, odd):
                whole = first + 1 == place or all(w.capital for w in words[first + 1 : place])
                if whole or all(w.folded in self.given for w in words[first + 1 : place]):
                    return found._replace(stop=place + 1)
        if place + 1 < len(words) and (found := self._given_at(words, place + 1, edits, odd)):
            return found._replace(first=place)
        if edits > 1 or not words[place].capital:
            return None
        return NameMention(MentionKind.SURNAME, place, place + 1, edits, odd)

    def _given_at(
        self, words: Sequence[Word], place: int, edits: int, odd: tuple[str, ...]
    ) -> NameMention | None:
        word = words[place]
        if word.folded == self.given[0][0] and (word.capital or len(self.given[0]) == 1):
            return NameMention(MentionKind.INITIALS, place, place + 1, edits, odd)
        more = edits_between(word.folded, self.given[0])
        if more is None and len(self.given) > 1:
            more = edits_between(word.folded, "".join(self.given))
        if more is None or edits + more > MOST_EDITS:
            return None
        kind = MentionKind.SPELLING if edits + more else MentionKind.EXACT
        return NameMention(
            kind, place, place + 1, edits + more, (*odd, *((word.folded,) if more else ()))
        )
