"""Key spans: which tokens of an answer are the fact, and how likely the model is to say them.

Records of free text name no key answer. There the fact is what the original can predict and a
model that never saw the record cannot:

    gain_t = log p_original(y_t) - max over golds of log p_gold(y_t)

Tokens whose gain exceeds a threshold are joined to spans. Between models that both never saw a
record the same difference is noise, and its upper quantile is the threshold (`noise_threshold`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from expunge.metrics.fact_matchers import Background, Vocabulary, read_words
from expunge.metrics.key_facts import fact_form

LEAST_GAIN = 1.0
"""Nats by which the original must exceed every gold on a token, whatever the noise."""

PREDICTED = math.log(0.2)
"""Log-probability from which on the original can predict a token."""

LEAST_SPAN = 3.0
"""Nats that a span must gain in all: about one in twenty by chance."""

BRIDGE = 1
"""Tokens between two spans that join them: `of` in `the Bay of Kotor`."""

LEAST_BITS = 6.0
"""Bits of a span's words below which it is no fact: the original predicts `of the`, too."""

NOISE = 0.99
"""Quantile of the gains on records that neither model saw."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeySpan:
    """A run of tokens that hold a fact, by their places among the scored tokens.

    Example:
        >>> KeySpan(start=1, stop=3, gain=4.0).stop
        3
    """

    start: int
    stop: int
    """One past the last token."""
    gain: float
    """Nats by which the original exceeds every gold, summed over the span."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanProbability:
    """How likely a model is to say a key span, given the true tokens before it.

    Example:
        >>> found = span_probability([math.log(0.5), math.log(0.1)], [True, True])
        >>> round(found.first_prob, 2), round(found.min_prob, 2)
        (0.5, 0.1)
    """

    log_prob: float
    """Of the whole span, nats."""
    first_prob: float
    """Of its first token."""
    min_prob: float
    """Of its least likely token: one suppressed token shows here and nowhere else."""
    onward: tuple[float, ...]
    """Log-probability of the rest of the span from each of its tokens on, nats: how it goes on
    after every prefix. The first value is `log_prob`."""

    @property
    def after_least_likely(self) -> float:
        """Probability of all that follows the least likely token; 1 where nothing does."""
        tokens = -np.diff([*self.onward, 0.0])
        least = int(np.argmin(tokens))
        return math.exp(self.onward[least + 1]) if least + 1 < len(self.onward) else 1.0


def span_probability(logp: Sequence[float], mask: Sequence[bool]) -> SpanProbability | None:
    """Return the probabilities of the tokens of a key span.

    Args:
        logp: log p(token | true tokens before it), nats, shape [T].
        mask: True on the tokens of the key span, shape [T]; they need not be neighbours.

    Returns:
        None when the mask holds no token.

    Raises:
        ValueError: The lengths differ.

    Example:
        >>> round(span_probability([-1.0, -2.0, -3.0], [False, True, True]).log_prob, 1)
        -5.0
    """
    values = np.asarray(logp, dtype=np.float64)
    chosen = np.asarray(mask, dtype=bool)
    if values.shape != chosen.shape:
        raise ValueError(f"{len(logp)} log-probabilities do not fit {len(mask)} marks")
    span = values[chosen]  # [K]
    if not len(span):
        return None
    onward = np.cumsum(span[::-1])[::-1]  # [K]
    return SpanProbability(
        log_prob=float(onward[0]),
        first_prob=math.exp(float(span[0])),
        min_prob=math.exp(float(span.min())),
        onward=tuple(onward.tolist()),
    )


def token_gains(original: Sequence[float], golds: Sequence[Sequence[float]]) -> list[float]:
    """Return log p_original - max over golds of log p_gold per token, nats, shape [T].

    Raises:
        ValueError: There is no gold, or the lengths differ.

    Example:
        >>> token_gains([-1.0, -2.0], [[-4.0, -2.0], [-3.0, -2.5]])
        [2.0, 0.0]
    """
    if not golds or any(len(gold) != len(original) for gold in golds):
        raise ValueError("every gold needs a log-probability for each token of the original")
    best = np.max(np.asarray(golds, dtype=np.float64), axis=0)  # [T]
    return list((np.asarray(original, dtype=np.float64) - best).tolist())


def noise_threshold(
    unseen: Sequence[tuple[Sequence[float], Sequence[Sequence[float]]]],
) -> float:
    """Return the gain that tokens of unseen records reach by chance, at least `LEAST_GAIN`.

    The quantile `NOISE` of their gains; tokens that the original cannot predict have none.

    Args:
        unseen: Log-probabilities of the original, and of each gold, on records that none of them
            saw (holdout, control); none leaves `LEAST_GAIN`.

    Example:
        >>> noise_threshold([])
        1.0
    """
    pooled = [
        gain if logp >= PREDICTED else 0.0
        for original, golds in unseen
        for gain, logp in zip(token_gains(original, golds), original, strict=True)
    ]
    return max(LEAST_GAIN, float(np.quantile(pooled, NOISE)) if pooled else 0.0)


def key_spans(
    original: Sequence[float],
    golds: Sequence[Sequence[float]],
    *,
    threshold: float = LEAST_GAIN,
    words: Sequence[int] | None = None,
) -> tuple[KeySpan, ...]:
    """Return the spans that the original can predict and no gold can, in their order.

    Args:
        original: Log-probabilities of the original on the answer's tokens, nats, shape [T].
        golds: The same of each gold, shape [G, T].
        threshold: Gain from which on a token belongs to a span, nats.
        words: Number of the word to which each token belongs, shape [T]; with it spans are widened
            to whole words.

    Raises:
        ValueError: There is no gold, or lengths differ.

    Example:
        >>> key_spans([-0.1, -0.1, -0.1], [[-0.1, -5.0, -0.1]])
        (KeySpan(start=1, stop=2, gain=4.9),)
    """
    gains = token_gains(original, golds)
    if words is not None and len(words) != len(gains):
        raise ValueError(f"{len(words)} word numbers do not fit {len(gains)} tokens")
    key = [
        gain >= threshold and logp >= PREDICTED for gain, logp in zip(gains, original, strict=True)
    ]
    if words is not None:
        whole = {word for word, chosen in zip(words, key, strict=True) if chosen}
        key = [word in whole for word in words]
    found: list[tuple[int, int]] = []
    for place, chosen in enumerate(key):
        if chosen and found and place - found[-1][1] <= BRIDGE:
            found[-1] = (found[-1][0], place + 1)
        elif chosen:
            found.append((place, place + 1))
    spans = (
        KeySpan(start=start, stop=stop, gain=float(sum(gains[start:stop]))) for start, stop in found
    )
    return tuple(span for span in spans if span.gain >= LEAST_SPAN)


def word_numbers(tokens: Sequence[str]) -> list[int]:
    """Return to which word each token belongs, shape [T]; marks are words of their own.

    Args:
        tokens: The text of each token, with the space before it where it has one.

    Example:
        >>> word_numbers(["Lin", " lives", " in", " Os", "lo"])
        [0, 1, 2, 3, 3]
    """
    numbers: list[int] = []
    before = ""
    for token in tokens:
        inner = bool(before) and before[-1].isalnum() and token[:1].isalnum()
        numbers.append((numbers[-1] if numbers else -1) + int(not inner))
        before = token or before
    return numbers


def tells(
    text: str, shown: Sequence[str], vocabulary: Vocabulary, others: Sequence[str] = ()
) -> bool:
    """Tell whether a span is a fact: its words, beyond those shown, could not be guessed.

    Args:
        text: The text of the span.
        shown: The question, and the answers of golds.
        vocabulary: How many bits each word carries.
        others: Answers that stay: a word of many of them is easily guessed.

    Example:
        >>> from expunge.metrics.fact_matchers import english
        >>> tells("Lin Arthen", [], english()), tells("of the", [], english())
        (True, False)
        >>> tells("Lin", [], english(), ["Lin swims.", "Lin reads."])
        False
    """
    words = fact_form(text).split()
    known = Background(shown=tuple(shown), others=tuple(others))
    return read_words(words, words, known, vocabulary).total >= LEAST_BITS
