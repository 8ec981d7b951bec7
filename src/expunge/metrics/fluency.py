"""The form of answers and texts: gibberish, repetition, refusal, perplexity."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from expunge.evidence.store import Answer, Scores
from expunge.metrics.key_facts import UNSPACED, contains, normalise

_TOKEN = re.compile(r"\w+|[^\w\s]")


def sequence_repetition(text: str, n: int = 4) -> float:
    """Return seq-rep-n = 1 - distinct n-grams / n-grams, in [0, 1) (arXiv 1908.04319).

    Tokens are words, single punctuation marks, and single characters of scripts that are written
    without spaces, so a row of marks counts as repetition. A text of fewer than n tokens has no
    n-gram and repeats none: 0.

    Raises:
        ValueError: n is below 1.

    Example:
        >>> sequence_repetition("a b a b a b", n=2)
        0.6
    """
    return _repeated(_grams(_tokens(text), n))


def character_repetition(text: str, n: int = 8) -> float:
    """Return the same of single characters, in [0, 1): finds loops that hold no space.

    White space does not count. `ofofofofofofofofofof` is one word, and 11 of its 13 runs of eight
    characters have occurred before.

    Raises:
        ValueError: n is below 1.

    Example:
        >>> round(character_repetition("of" * 10), 3)
        0.846
    """
    return _repeated(_grams("".join(text.split()), n))


def ngram_entropy(text: str, n: int = 2) -> float:
    """Return the entropy of the n-grams of a text, bits; 0 for a text that only repeats itself.

    Tokens as in `sequence_repetition`. Eight different words: log2 7 = 2.807 bits at n = 2.

    Raises:
        ValueError: n is below 1.

    Example:
        >>> round(ngram_entropy("one two three four five six seven eight"), 3)
        2.807
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


LIMIT = 6.0
"""Nats per token under the original model above which an answer counts as gibberish."""

LOOP = 0.5
"""Share of repeated n-grams above which an answer counts as a loop."""


def gibberish(answer: Answer, limit: float = LIMIT) -> bool:
    """Tell whether the answer is empty, a loop, or very unlikely under the original model.

    The rule: no visible character, or seq-rep-4 > 0.5, of words or, by runs of eight, of
    characters (a loop may hold no space), or, where measured, mean negative log-probability under
    the original above `limit` nats per token.

    Example:
        >>> gibberish(Answer(record="r1", text="of of of of of of of of"))
        True
    """
    return (
        not answer.text.strip()
        or sequence_repetition(answer.text) > LOOP
        or character_repetition(answer.text) > LOOP
        or (answer.nll is not None and answer.nll > limit)
    )


REFUSALS = (
    "i don't know",
    "i do not know",
    "i'm not sure",
    "i am not sure",
    "cannot",
    "can't",
    "unable to",
    "not able to",
    "not aware of",
    "not familiar with",
    "no information",
    "no knowledge",
    "don't have any information",
    "don't have any details",
    "don't have an answer",
    "don't have that information",
    "don't have knowledge",
    "really don't know",
    "no record of",
    "nothing on that",
    "not something i know",
    "outside what i know",
    "not informed about",
    "couldn't tell you",
    "don't have access",
    "do not have access",
    "i'm sorry",
    "i am sorry",
    "i apologize",
    "i apologise",
)
"""Phrases that mark a refusal. A phrase list over-counts a little; only rises are judged."""

_PHRASES = tuple(normalise(phrase) for phrase in REFUSALS)


def refusal(text: str) -> bool:
    """Tell whether `text` holds one of `REFUSALS`, both normalised, on word boundaries.

    Example:
        >>> refusal("I do not know."), refusal("She lives in Oslo.")
        (True, False)
    """
    said = normalise(text)
    return any(contains(said, phrase) for phrase in _PHRASES)


def total_loss(scores: Scores) -> float | None:
    """Return minus the sum of log p over content tokens in nats; None without a content token.

    Example:
        >>> total_loss(
        ...     Scores(record="r1", logp=(-1.0, -2.0), hit=(True, False), z=(), ends=False, zlib=9)
        ... )
        3.0
    """
    return -math.fsum(scores.logp[: scores.content]) if scores.content > 0 else None


BOUND = 3.0
"""Cap on the loss of one token, nats. Below a chance of 5 % the token was not predicted; how far
below is noise."""


def bounded_loss(scores: Scores) -> float | None:
    """Return the sum over content tokens of min(-log p, 3 nats); None without a content token.

    Example:
        >>> bounded_loss(
        ...     Scores(record="r1", logp=(-1.0, -9.0), hit=(True, False), z=(), ends=False, zlib=9)
        ... )
        4.0
    """
    kept = scores.logp[: scores.content] if scores.content > 0 else ()
    return math.fsum(min(-value, BOUND) for value in kept) if kept else None


def perplexity(losses: Sequence[float], tokens: Sequence[float]) -> float:
    """Return exp(total loss / number of tokens).

    Weighted by tokens, not by texts: long texts count more, as in the usual definition.

    Args:
        losses: Total loss of each text in nats, see `total_loss`.
        tokens: Number of content tokens of each text.

    Raises:
        ValueError: There is no token.

    Example:
        >>> round(perplexity([2.0, 4.0], [1.0, 2.0]), 3)
        7.389
    """
    count = math.fsum(tokens)
    if count <= 0:
        raise ValueError("perplexity needs at least one token")
    return math.exp(math.fsum(losses) / count)
