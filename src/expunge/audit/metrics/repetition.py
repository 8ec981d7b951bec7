"""Repetition: the share of n-grams of a text that have occurred before in it."""

import re

_TOKEN = re.compile(r"\w+|[^\w\s]")


def sequence_repetition(text: str, n: int = 4) -> float:
    """Return seq-rep-n = 1 - distinct n-grams / n-grams, in [0, 1) (arXiv 1908.04319).

    Tokens are words and single punctuation marks, so a row of marks counts as repetition. A text
    of fewer than n tokens has no n-gram and repeats none: 0.

    Raises:
        ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"n-grams need n >= 1, not {n}")
    tokens = _TOKEN.findall(text)
    grams = [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
