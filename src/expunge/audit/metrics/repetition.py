"""Repetition: the share of n-grams of a text that have occurred before in it."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from expunge.audit.metrics.text import UNSPACED

_TOKEN = re.compile(r"\w+|[^\w\s]")


def sequence_repetition(text: str, n: int = 4) -> float:
    """Return seq-rep-n = 1 - distinct n-grams / n-grams, in [0, 1) (arXiv 1908.04319).

    Tokens are words, single punctuation marks, and single characters of scripts that are written
    without spaces, so a row of marks counts as repetition. A text of fewer than n tokens has no
    n-gram and repeats none: 0.

    Raises:
        ValueError: n is below 1.
    """
    return _repeated(_grams(_tokens(text), n))


def character_repetition(text: str, n: int = 8) -> float:
    """Return the same of single characters, in [0, 1): finds loops that hold no space.

    White space does not count. `ofofofofofofofofofof` is one word, and 11 of its 13 runs of eight
    characters have occurred before.

    Raises:
        ValueError: n is below 1.
    """
    return _repeated(_grams("".join(text.split()), n))


def ngram_entropy(text: str, n: int = 2) -> float:
    """Return the entropy of the n-grams of a text, bits; 0 for a text that only repeats itself.

    Tokens as in `sequence_repetition`. Eight different words: log2 7 = 2.807 bits at n = 2.

    Raises:
        ValueError: n is below 1.
    """
    grams = Counter(_grams(_tokens(text), n))
    total = sum(grams.values())
    return -sum(count / total * math.log2(count / total) for count in grams.values()) + 0.0


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(UNSPACED.sub(r" \1 ", text))


def _grams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    if n < 1:
        raise ValueError(f"n-grams need n >= 1, not {n}")
    return [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]


def _repeated(grams: Sequence[tuple[str, ...]]) -> float:
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
