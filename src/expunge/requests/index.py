"""The index of a corpus: words, names and values of every document, made once for all names."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

from expunge.data.corpora import common_names, common_words
from expunge.requests.corpus import Corpus, Document
from expunge.requests.facts import EMAIL, dates_in
from expunge.requests.names import Word, edits_between, fold, words_of

TITLES = frozenset("mr mrs ms miss dr prof professor herr frau sir madam".split())  # noqa: SIM905
"""Words before a name that are no part of it."""
_DIGITS = re.compile(r"\d(?:[\d ./-]*\d)?")
_LONGEST_CODE = 24


@cache
def common_folded() -> frozenset[str]:
    """Return the common words of the language, folded."""
    return frozenset(fold(word) for word in common_words())


@cache
def usual_names() -> frozenset[str]:
    """Return common first and last names, folded."""
    given, last = common_names()
    return frozenset(fold(name) for name in (*given, *last))


class CorpusIndex:
    """What a search needs of a corpus; made once for any number of names.

    Args:
        corpus: The documents.
    """

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.documents = corpus.documents
        self.words = [words_of(document.text) for document in corpus.documents]
        self.values = [
            _values(document, words)
            for document, words in zip(corpus.documents, self.words, strict=True)
        ]
        self.frequency = Counter(value for values in self.values for value in values)
        self.postings: defaultdict[str, list[int]] = defaultdict(list)
        lower: Counter[str] = Counter()
        capital: Counter[str] = Counter()
        for number, words in enumerate(self.words):
            for folded in {word.folded for word in words}:
                self.postings[folded].append(number)
            lower.update({word.folded for word in words if word.text.islower()})
            capital.update({word.folded for word in words if word.capital})
        self.lower = lower
        self.capital = capital

    def ordinary(self, word: str) -> bool:
        """Tell whether a word is one of the language, by its small letters in this corpus."""
        small = self.lower[word]
        return small >= 3 and (small >= 0.2 * self.capital[word] or word in common_folded())

    def near(self, part: str) -> set[int]:
        """Return the documents that have a word near a part of a name."""
        near = (word for word in self.postings if edits_between(word, part) is not None)
        return {number for word in near for number in self.postings[word]}

    def name_of(self, words: Sequence[Word], place: int) -> tuple[str, str] | None:
        """Return first and last name of whoever is named at a place, folded."""
        if place + 1 >= len(words):
            return None
        first, last = words[place], words[place + 1]
        if not (first.capital and last.capital and last.start - first.end <= 2):
            return None
        if len(first.text) < 2 or len(last.text) < 2 or first.folded in TITLES:
            return None
        pair = first.folded, last.folded
        known = [word in usual_names() for word in pair]
        plain = [word in common_folded() and self.ordinary(word) for word in pair]
        return pair if not any(plain) or known[0] else None

    def people_in(self, number: int) -> set[tuple[str, str]]:
        """Return the names of people in a document, folded."""
        words = self.words[number]
        return {pair for place in range(len(words)) if (pair := self.name_of(words, place))}

    def shortened_in(self, number: int) -> bool:
        """Tell whether a document names somebody by initial and last name: `P Ek`, `Ek, P.`."""
        text = self.documents[number].text
        return any(
            len(one.text) == 1 and one.capital and self._is_last_name(other)
            and text[min(one.end, other.end) : max(one.start, other.start)] in (" ", ". ", ", ")
            for before, after in pairwise(self.words[number])
            for one, other in ((before, after), (after, before))
        )  # fmt: skip

    def _is_last_name(self, word: Word) -> bool:
        return word.capital and len(word.text) > 2 and word.folded not in common_folded()


def _values(document: Document, words: Sequence[Word]) -> frozenset[str]:
    """Return what may tell people apart: words of content, e-mail addresses, numbers as one."""
    found = {word.folded for word in words if len(word.text) > 3 or word.text[0].isdigit()}
    found |= {match.group().casefold() for match in EMAIL.finditer(document.text)}
    for match in _DIGITS.finditer(document.text):
        code = re.sub(r"\D", "", match.group())
        if 4 <= len(code) <= _LONGEST_CODE:
            found.add(code)
    found |= dates_in(document.text)
    capitals = [word for word in words if word.capital or word.text[0].isdigit()]
    pairs = pairwise(capitals)
    found |= {f"{a.folded} {b.folded}" for a, b in pairs if b.start - a.end <= 2}
    return frozenset(found)
