"""Control items: records like those to forget, about people and things that do not exist.

They stand for unseen records where there is no gold model (tiers G3 and G4):
the same questions in the same words, with every name, place, number and key answer exchanged.

Word by word, the same word by the same substitute throughout one fabricated copy of the set:

1. months, weekdays, places and occupations become others of their kind;
2. digits become other digits, in words of the same shape; years become other years;
3. names (capitalised words that do not merely begin a sentence) become invented, pronounceable
   words of about the same length, in the same case;
4. other words of a key answer become words of other key answers of the set, else invented ones.

An invented word occurs in no record of any set. Deterministic by the seed.
"""

import math
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple, Self

from expunge.data.records import Record, reworded

MOST = 100
"""Most control items that are made."""

PEOPLE = 3
"""Fewest fabricated subjects, where the records name their subjects."""

_WORD = re.compile(r"[^\W_]+")
_SENTENCE = re.compile(r"(?:^|[.!?:\n])[\s\"'(\u201c\u2018]*$")
_YEAR = re.compile(r"(?:19|20)\d\d")
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)")
_DAYS = 28
_CODE = 3
"""Longest word in capitals that is taken for a code, not a name."""
_FUNCTION_WORDS = frozenset(
    """
    a an and are as at be been by did do does for from had has have he her his i in is it its my
    not of on or our she that the their they to was we were who will with you your
    """.split()  # noqa: SIM905 - quoted words are not readable
)
_KINDS = tuple(
    tuple(words.split())
    for words in (
        "January February March April May June July August September October November December",
        "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
        "Lagos Lisbon Karachi Kyoto Santiago Oslo Cairo Toronto Vienna Manila Dublin Nairobi Lima "
        "Prague Havana Seoul Athens Tunis Boston Sydney Geneva Bogota Zagreb Hanoi Dakar Taipei",
        "Nigeria Portugal Pakistan Japan Chile Norway Egypt Canada Austria Kenya Peru Cuba Korea "
        "Greece Tunisia Australia Switzerland Colombia Croatia Vietnam Senegal Taiwan Ireland",
        "teacher doctor nurse engineer lawyer baker florist pilot carpenter dentist librarian "
        "plumber chef journalist accountant electrician mechanic optician surgeon tailor barber",
    )
)
_KIND = {word.casefold(): kind for kind in _KINDS for word in kind}
_ONSETS = tuple("b br c d dr f g gr h j k l m n p pr qu r s st t th tr v w z".split())  # noqa: SIM905
_VOWELS = tuple("a e i o u ai ea ie ou".split())  # noqa: SIM905
_CODAS = tuple("l m n r s t th nd rn x".split())  # noqa: SIM905


def fabricated(
    forget: Sequence[Record], others: Iterable[Record], *, seed: int
) -> tuple[Record, ...]:
    """Return control items made from the forget set; fewer, or none, where little can be exchanged.

    Args:
        forget: The records to forget.
        others: All other records of the request; no invented word occurs in them.
        seed: Seed of all draws.

    A record whose question, or whose passage, would stay as it is makes no control item.
    """
    taken = {word for record in (*forget, *others) for word in _folded(_texts(record))}
    subjects = {record.subject for record in forget if record.subject}
    copies = math.ceil(PEOPLE / len(subjects)) if subjects else 1
    telling = TellingWords.of(forget)
    made: list[Record] = []
    for copy in range(copies):
        swap = Substitutes(telling, taken, seed=seed * 1009 + copy)
        made += [new for record in forget if (new := _fabricate(record, swap, copy)) is not None]
    step = max(1.0, len(made) / MOST)
    return tuple(made[int(i * step)] for i in range(min(len(made), MOST)))


def _fabricate(record: Record, swap: "Substitutes", copy: int) -> Record | None:
    new = replace(
        record,
        id=f"fabricated-{copy}-{record.id}",
        prompt=reworded(record.prompt, swap.text),
        completion=swap.text(record.completion),
        alternatives=(),
        key_answers=tuple(swap.text(answer) for answer in record.key_answers),
        paraphrases=tuple(swap.text(question) for question in record.paraphrases),
        restated=tuple(swap.text(answer) for answer in record.restated),
        wrong=tuple(swap.text(answer) for answer in record.wrong),
        subject=swap.text(record.subject) if record.subject else None,
        relation=None,
        source=f"fabricated from {record.source}",
    )
    changed = not record.prompt or new.question != record.question
    return new if changed and new.completion != record.completion else None


class TellingWords(NamedTuple):
    """The words of a forget set that tell something, folded but for `pool`."""

    secret: frozenset[str]
    """Those of key answers and subjects."""
    names: frozenset[str]
    """Those that are capitalised within a sentence."""
    pool: tuple[str, ...]
    """Those of key answers that are no names: they stand for each other."""

    @classmethod
    def of(cls, forget: Sequence[Record]) -> Self:
        """Read them once; every copy of the set exchanges the same words."""
        answers = [answer for record in forget for answer in record.key_answers]
        subjects = [record.subject for record in forget if record.subject]
        texts = [text for record in forget for text in _texts(record)]
        names = {
            match.group().casefold()
            for text in texts
            for match in _WORD.finditer(text)
            if match.group()[0].isupper() and not _SENTENCE.search(text[: match.start()])
        }
        words = {word for answer in answers for word in _WORD.findall(answer) if word.islower()}
        return cls(
            secret=frozenset({*_folded(answers), *_folded(subjects)} - _FUNCTION_WORDS),
            names=frozenset(names - _FUNCTION_WORDS),
            pool=tuple(sorted(words - _FUNCTION_WORDS)),
        )


class Substitutes:
    """What each telling word of the forget set becomes in one fabricated copy of it."""

    def __init__(self, telling: TellingWords, taken: set[str], *, seed: int) -> None:
        self._random = random.Random(seed)
        self._taken = set(taken)
        self._known: dict[str, str] = {}
        self._telling = telling

    def text(self, text: str) -> str:
        """Return the text with every content word exchanged."""
        return _WORD.sub(lambda match: self._word(match.group()), text)

    def _word(self, word: str) -> str:
        folded = word.casefold()
        digits = any(char.isdigit() for char in word)
        named = folded in self._telling.names and not word.islower()
        if not (digits or folded in _KIND or folded in self._telling.secret or named):
            return word
        if folded not in self._known:
            self._known[folded] = self._substitute(word)
        return _like(self._known[folded], word)

    def _substitute(self, word: str) -> str:
        folded = word.casefold()
        if any(char.isdigit() for char in word) or (word.isupper() and len(word) <= _CODE):
            return self._digits(folded)
        if folded in _KIND:
            kind = [other for other in _KIND[folded] if other.casefold() != folded]
            same = [other for other in kind if _vowel(other) is _vowel(word)]
            return self._random.choice(same or kind)
        others = [w for w in self._telling.pool if w != folded and w not in self._known.values()]
        if word.islower() and folded in self._telling.pool and others:
            return self._random.choice(others)
        return self._invented(len(word))

    def _digits(self, word: str) -> str:
        """Exchange digits by digits and letters by letters; years and days of a month stay such."""
        if ordinal := _ORDINAL.fullmatch(word):
            return self._digits(ordinal[1]) + "th"
        if _YEAR.fullmatch(word):
            return str(self._random.choice([y for y in range(1920, 2020) if str(y) != word]))
        if word.isdecimal() and 1 <= int(word) <= _DAYS:
            days = [d for d in range(1, _DAYS + 1) if d != int(word) and len(str(d)) == len(word)]
            if days:
                return str(self._random.choice(days))
        while True:
            drawn = "".join(map(self._char, word))
            if drawn != word:
                return drawn

    def _char(self, char: str) -> str:
        return self._random.choice("123456789" if char.isdigit() else "abcdefghijklmnoprstuvwz")

    def _invented(self, length: int) -> str:
        while True:
            word = ""
            while len(word) < max(3, length - 1):
                word += self._random.choice(_ONSETS) + self._random.choice(_VOWELS)
            word += self._random.choice(_CODAS) if len(word) < length else ""
            if word not in self._taken:
                self._taken.add(word)
                return word


def _vowel(word: str) -> bool:
    """Tell whether a word takes `an`, roughly."""
    return word[0] in "aeiouAEIOU"


def _like(new: str, old: str) -> str:
    """Write a word in the case of another."""
    if len(old) > 1 and old.isupper():
        return new.upper()
    return new[:1].upper() + new[1:] if old[:1].isupper() else new.lower()


def _texts(record: Record) -> list[str]:
    said = [turn.content for turn in record.prompt if turn.role != "system"]
    answers = (record.completion, *record.key_answers, record.subject or "")
    return [*said, *answers, *record.paraphrases, *record.restated, *record.wrong]


def _folded(texts: Iterable[str]) -> Iterable[str]:
    return (word.casefold() for text in texts for word in _WORD.findall(text))
