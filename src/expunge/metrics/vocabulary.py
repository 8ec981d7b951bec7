"""How surprising a word is: the scale on which parts of a fact are weighed."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from expunge.data.corpora import common_names, common_words

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
