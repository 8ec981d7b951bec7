"""Matchers of facts: how many bits of a date, code, amount, address, name or text are stated?

A word has the more bits the more surprising it is (`Vocabulary`). Each matcher returns the bits of
the parts that an answer states, less the search through the answer, and the bits of the fact beyond
those given away before.
"""

import math
import re
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from expunge.data.corpora import common_names, common_words
from expunge.metrics.key_facts import amounts, codes, dates, fact_form
from expunge.utils.spelling import edit_distance

RARE = 10.0
"""Bits of a word that is on no list of common words: a name, a term."""

GIVEN_NAME = 6.0
"""Bits of a common given name or surname."""

TOPIC = 100.0
"""Rank up to which a word has no bits. A guess at the answer draws its words from the question's
topic, which this makes a hundredth of the language; chosen on the development answers."""


@lru_cache(maxsize=1)
def _tokenizer() -> Any:  # noqa: ANN401 - rouge_score is not typed
    from rouge_score.tokenizers import DefaultTokenizer

    return DefaultTokenizer(use_stemmer=True)


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Return the stem of a word (Porter, 1980); other scripts and figures stay as they are.

    Example:
        >>> stem("running"), stem("Łódź")
        ('run', 'Łódź')
    """
    return str(_tokenizer().tokenize(word)[0]) if word.isascii() and word.isalpha() else word


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """Words and the bits that each of them carries.

    Example:
        >>> Vocabulary.of(["the", "of"], ["lin"]).common("of")
        True
    """

    ranks: dict[str, int]
    """Stem to its place in the list of common words, from 1."""
    names: frozenset[str]
    """Common given names and surnames."""
    words: frozenset[str]
    """All spellings of the list of common words."""

    @classmethod
    def of(cls, common: Iterable[str], names: Iterable[str]) -> "Vocabulary":
        """Return the vocabulary of a list of words, most frequent first, and of common names."""
        listed = [word.casefold() for word in common]
        ranks: dict[str, int] = {}
        for rank, word in enumerate(listed, start=1):
            ranks.setdefault(stem(word), rank)
        return cls(
            ranks=ranks,
            names=frozenset(name.casefold() for name in names),
            words=frozenset(listed),
        )

    def bits(self, word: str) -> float:
        """Return how many bits it takes to guess the word, from 0 to `RARE`."""
        rank = self.ranks.get(stem(word))
        if rank is not None:
            return min(RARE, max(0.0, math.log2(rank / TOPIC)))
        return GIVEN_NAME if word in self.names else RARE

    def common(self, word: str) -> bool:
        """Tell whether the word is on the list in this spelling."""
        return word in self.words


@cache
def english() -> Vocabulary:
    """Return the vocabulary of the word lists that ship with expunge.

    Example:
        >>> english().bits("the"), english().bits("qxarthen")
        (0.0, 10.0)
    """
    given, last = common_names()
    return Vocabulary.of(common_words(), (*given, *last))


WHOLE = 0.8
"""Share of a fact's bits from which on it counts as stated: no other fact fits."""

LONG = 6
"""Parts above which a text is long: guesses at it share its topic, so common words count only
where much of it is said."""

GIST = 0.35
"""Share of a long text's bits from which on its common words count."""

ISOLATED = 7.0
"""Bits from which on a word of a long text always counts."""

DIGIT, LETTER = math.log2(10), math.log2(26)
DAY, MONTH, YEAR = math.log2(31), math.log2(12), math.log2(60)

_NEAR = 0.025
"""Relative distance up to which an amount is near another one."""
_RANGE = math.log(4)
"""Amounts of one kind lie within a factor of about four: the natural logarithm of that."""
TITLES = frozenset(
    (
        "dr", "doctor", "mr", "mrs", "ms", "miss", "prof", "professor", "sir", "st",
        "saint", "the", "of", "and", "de",
    )
)  # fmt: skip
_KINDS = frozenset(
    (
        "street", "lane", "road", "row", "avenue", "close", "square", "place", "drive",
        "way", "court", "rue",
    )
)  # fmt: skip
_ABBREVIATED = {"st": ("saint", "street"), "ln": ("lane",), "rd": ("road",), "ave": ("avenue",)}
_DOMAINS = frozenset(
    (
        "com", "org", "net", "example", "test", "invalid", "www", "mail",
    )
)  # fmt: skip
_PIECES = re.compile(r"[^\W\d_]+|\d+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Background:
    """What an answer may hold without knowledge of the fact.

    Example:
        >>> Background(shown=("When was she born?",)).gold
        ()
    """

    shown: tuple[str, ...] = ()
    """Question and beginning of the answer: all that the test itself reveals."""
    gold: tuple[str, ...] = ()
    """What golds answered to the same test."""
    others: tuple[str, ...] = ()
    """Facts of other records, of the same form where there are any."""


class Reading(NamedTuple):
    """How an answer matches one fact.

    Example:
        >>> Reading(5.0, 10.0, ("1962",)).share
        0.5
    """

    bits: float
    total: float
    """Bits of the fact beyond what was given away."""
    matched: tuple[str, ...]

    @property
    def share(self) -> float:
        """Share of the fact's remaining bits that the answer states, in [0, 1]."""
        return min(1.0, self.bits / self.total) if self.total > 0 else 0.0


NOTHING = Reading(0.0, 0.0, ())


def _known(background: Background) -> list[list[str]]:
    """Return the words of all that gives facts away."""
    return [list(words_of(text)) for text in (*background.shown, *background.gold)]


@lru_cache(maxsize=8192)
def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text in their `fact_form`.

    Example:
        >>> words_of("José Núñez, 12 Elm Street")
        ('jose', 'nunez', '12', 'elm', 'street')
    """
    return tuple(fact_form(text).split())


def read_date(said: str, fact: str, background: Background) -> Reading:
    """Match day, month and year with the best date that was said.

    Example:
        >>> read_date("on 8 March 1962", "8 March 1962", Background()).share
        1.0
    """
    truth = dates(words_of(fact))[0]
    known = [date for words in _known(background) for date in dates(words)]
    open_ = {
        place: bits
        for place, bits in enumerate((DAY, MONTH, YEAR))
        if truth[place] and all(date[place] != truth[place] for date in known)
    }
    total = sum(open_.values())
    found = dates(words_of(said))
    best = Reading(0.0, total, ())
    for date in found:
        hit = [place for place in open_ if date[place] == truth[place]]
        bits = sum(open_[place] for place in hit)
        if bits > best.bits:
            best = Reading(bits, total, tuple(str(truth[place]) for place in hit))
    tries = math.log2(max(1, len({date.year for date in found if date.year})))
    return best if best.bits >= total else best._replace(bits=max(0.0, best.bits - tries))


def read_code(said: str, fact: str, background: Background) -> Reading:
    """Match the longest run of the code, or all of it with few wrong marks.

    Example:
        >>> read_code("call 555 72 33", "555-7233", Background()).matched
        ('5557233',)
    """
    code = "".join(words_of(fact))
    letters = any(map(str.isalpha, code))
    worth = [DIGIT if mark.isdigit() else LETTER for mark in code]
    usual = _usual_start(code, background.others)
    worth[:usual] = [0.0] * usual
    for words in _known(background):
        for known in codes(words, letters=letters):
            if _nearly(code, known, worth).bits:
                worth = [0.0] * len(code)
            for start, length in _runs(code, known):
                if length >= 3:
                    worth[start : start + length] = [0.0] * length
    total = sum(worth)
    best = Reading(0.0, total, ())
    offered = codes(words_of(said), letters=letters)
    tries = math.log2(max(1, sum(any(map(str.isdigit, other)) for other in offered)))
    for other in offered:
        for found in (_best_run(code, other, worth), _nearly(code, other, worth)):
            bits = max(0.0, found.bits - tries)
            if bits > best.bits:
                best = Reading(bits, total, found.matched)
    return best


def _usual_start(code: str, others: Sequence[str]) -> int:
    """Return how many marks other codes begin with as well: an area code identifies nobody."""
    starts = ["".join(words_of(other)) for other in others]
    enough = max(2.0, 0.1 * len(starts))
    length = 0
    while length < len(code) and (
        sum(each.startswith(code[: length + 1]) for each in starts) >= enough
    ):
        length += 1
    return length


def _runs(code: str, other: str) -> list[tuple[int, int]]:
    """Return start and length of every longest common run of `code` with `other`."""
    found: list[tuple[int, int]] = []
    for start in range(len(code)):
        length = 0
        while start + length < len(code) and code[start : start + length + 1] in other:
            length += 1
        if length and not (found and start + length <= sum(found[-1])):
            found.append((start, length))
    return found


def _best_run(code: str, other: str, worth: Sequence[float]) -> Reading:
    """Return the run with most bits, less the number of places where chance could put it."""
    total = sum(worth)
    open_ = sum(value > 0 for value in worth)
    best = Reading(0.0, total, ())
    for start, length in _runs(code, other):
        run, bits = code[start : start + length], sum(worth[start : start + length])
        if bits >= total > 0:
            return Reading(bits, total, (run,))
        counted = sum(value > 0 for value in worth[start : start + length])
        # A run that stands at its own place, from either end, has fewer places to be found at.
        from_end = len(code) - start - length
        aligned = other.find(run) == start or len(other) - other.rfind(run) - length == from_end
        placed = 2 if aligned else max(1, len(other) - length + 1)
        bits -= math.log2(max(1, open_ - counted + 1) * placed)
        if bits > best.bits:
            best = Reading(bits, total, (run,))
    return best


def _nearly(code: str, other: str, worth: Sequence[float]) -> Reading:
    """Return the bits of a code with one or two wrong marks: all, less the ways to be wrong."""
    first = next((place for place, value in enumerate(worth) if value), 0)
    own, total = code[first:], sum(worth)
    tried = {other, other[-len(own) :], other[: len(own)]}
    wrong = min((edit_distance(own, each) for each in tried), default=len(own))
    open_ = sum(value > 0 for value in worth)
    if wrong > 2 or open_ - wrong < 3:
        return NOTHING
    ways = math.log2(1 + math.comb(open_, wrong) * 10.0**wrong) if wrong else 0.0
    return Reading(max(0.0, total - ways - math.log2(len(tried))), total, (other,))


def read_amount(said: str, fact: str, background: Background) -> Reading:
    """Match the number, exactly or nearly, less how near golds come.

    Example:
        >>> read_amount("she earns 35,900", "35900", Background()).share
        1.0
    """
    truth = max(amounts(words_of(fact)), default=0.0)
    total = min(16.0, math.log2(2 + _RANGE * truth))
    known = [value for words in _known(background) for value in amounts(words)]
    found = amounts(words_of(said))
    given = max((_closeness(value, truth, total) for value in known), default=0.0)
    best = max((_closeness(value, truth, total) for value in found), default=0.0)
    beyond = best - given if given else best
    if best < total:
        beyond -= math.log2(max(1, len(set(found))))
    matched = tuple(str(value) for value in found if _closeness(value, truth, total) == best > 0)
    return Reading(max(0.0, beyond), total - given, matched if beyond > 0 else ())


def _closeness(value: float, truth: float, total: float) -> float:
    """Return the bits of being this near: a guess is uniform in the logarithm over `_RANGE`."""
    if value == truth:
        return total
    distance = abs(value - truth) / truth if truth else math.inf
    return -math.log2(2 * distance / _RANGE) if distance <= _NEAR else 0.0


def pieces(text: str) -> list[str]:
    """Cut e-mail addresses into words and figures.

    Example:
        >>> pieces("lin7@mail.example")
        ['lin', '7', 'mail', 'example']
    """
    return _PIECES.findall(fact_form(text))


def read_words(
    said: Sequence[str],
    fact: Sequence[str],
    background: Background,
    vocabulary: Vocabulary,
    *,
    email: bool = False,
) -> Reading:
    """Match the words of a fact, in any order, in other inflections, or nearly spelt so.

    Example:
        >>> from expunge.metrics.fact_matchers import english
        >>> read_words(["arthen"], ["lin", "arthen"], Background(), english()).matched
        ('arthen',)
    """
    shown = [_words(text, email=email) for text in (*background.shown, *background.gold)]
    frequency = _frequency(background.others, email=email)
    given = _AnswerWords.of([word for words in shown for word in words], vocabulary, frequency)
    parts = [
        word
        for place, word in enumerate(fact)
        if word not in TITLES | _KINDS
        and not given.share(fact, place)
        and not (email and word in _DOMAINS)
    ]
    worth = [_bits(w, vocabulary, frequency, len(background.others), email=email) for w in parts]
    answer = _AnswerWords.of(said, vocabulary, given.stems | frequency.keys())
    shares = [answer.share(parts, place) for place in range(len(parts))]
    total = sum(worth)
    bits = sum(value * share for value, share in zip(worth, shares, strict=True))
    if len(parts) > LONG and bits < GIST * total:
        each = zip(worth, shares, strict=True)
        bits = sum(value * share for value, share in each if value >= ISOLATED)
    content = len({w for w in said if vocabulary.bits(w) > 0 and stem(w) not in given.stems})
    tries = math.log2(max(1.0, content / max(1, len(fact))))
    matched = tuple(word for word, share in zip(parts, shares, strict=True) if share)
    whole = bits >= total * WHOLE
    return Reading(max(0.0, bits if whole else bits - tries), total, matched)


def _words(text: str, *, email: bool) -> Sequence[str]:
    return pieces(text) if email else words_of(text)


@lru_cache(maxsize=64)
def _frequency(others: tuple[str, ...], *, email: bool) -> Counter[str]:
    """Return in how many other facts each stem stands."""
    return Counter(
        each for other in others for each in {stem(word) for word in _words(other, email=email)}
    )


def _bits(
    word: str, vocabulary: Vocabulary, frequency: Counter[str], others: int, *, email: bool
) -> float:
    """Return what a part is worth, at most what its frequency among other facts leaves."""
    if any(map(str.isdigit, word)):
        # A year, and the first digit of a house number, can be guessed better than by tens.
        year = len(word) == 4 and word.isdecimal() and 1000 <= int(word) <= 2099
        bits = YEAR if year else DIGIT * len(word) - (0.0 if email else 2.0)
    else:
        bits = min(vocabulary.bits(word), 2.0 * (len(word) - 1))
    count = frequency[stem(word)]
    return max(0.0, min(bits, math.log2((others + 1) / count)) if count else bits)


@dataclass(frozen=True, kw_only=True, slots=True)
class _AnswerWords:
    """The words of an answer, prepared for comparison with parts of a fact."""

    words: frozenset[str]
    """With what abbreviations stand for, and neighbours as one word."""
    stems: frozenset[str]
    strange: tuple[str, ...]
    """Words that may be misspelt: neither common, nor words of other facts."""

    @classmethod
    def of(
        cls, said: Sequence[str], vocabulary: Vocabulary, usual: Container[str]
    ) -> "_AnswerWords":
        joined = (left + right for left, right in pairwise(said))
        longer = (full for word in said for full in _ABBREVIATED.get(word, ()))
        alone = frozenset((*said, *longer))
        strange = (
            w for w in alone if len(w) > 3 and not vocabulary.common(w) and stem(w) not in usual
        )
        return cls(
            words=alone.union(joined),
            stems=frozenset(map(stem, alone)),
            strange=tuple(strange),
        )

    def share(self, parts: Sequence[str], place: int) -> float:
        """Return how much of a part was said, in [0, 1]."""
        part = parts[place]
        after, before = parts[place + 1 : place + 2], parts[max(0, place - 1) : place]
        pairs = [part + "".join(after), "".join(before) + part]
        if part in self.words or (part.isalpha() and stem(part) in self.stems):
            return 1.0
        if any(pair != part and pair in self.words for pair in pairs):
            return 1.0
        if not part.isalpha():
            return 0.0
        return max((_alike(part, word) for word in self.strange), default=0.0)


def _alike(part: str, word: str) -> float:
    """Return 1 - distance / length for a near spelling, the said share for a beginning, else 0."""
    if len(word) >= 5 and len(word) >= 0.6 * len(part) and part.startswith(word):
        return len(word) / len(part)
    allowed = 2 if len(part) >= 8 else 1 if len(part) >= 5 else 0
    if abs(len(part) - len(word)) > allowed:
        return 0.0
    distance = edit_distance(part, word)
    return 1 - distance / len(part) if distance <= allowed else 0.0
