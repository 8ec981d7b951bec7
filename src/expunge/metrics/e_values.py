"""e-values: evidence that repeated draws bring facts back, valid whenever one stops drawing.

An e-value has a mean of at most 1 where the null holds. As draws arrive it is a nonnegative
supermartingale, so `P(it ever reaches 1 / a) <= a` (Ville; arXiv:2210.01948). It may be read after
every draw, and drawing may stop when it is decided. `h` of `n` draws state a fact:

    chance known:  E = mean over t in (p, 1) of (t / p)^h ((1 - t) / (1 - p))^(n - h)
    null:          a draw states the fact with chance p at most

    golds drawn:   E = mean over u > v of (u / m)^h ((1 - u) / (1 - m))^(n - h)
                                        x (v / m)^k ((1 - v) / (1 - m))^(c n - k)
                   m = (u + c v) / (1 + c);  k of the golds' c n draws state it (arXiv:2106.02693)
    null:          a draw states the fact no more often than a gold's draw

Several facts: half of their mean, half of the counts of all facts in the same formula, which is an
e-value too: a fixed (u, v) multiplies over facts (arXiv:1912.06116). The first finds one fact that
is kept, the second a little of all. Dimensionless, higher = more comes back.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.05
"""Chance that a true null is ever rejected."""

_RATES = np.array([0.005, 0.02, 0.05, *np.arange(0.1, 0.95, 0.1), 0.95, 0.98, 0.995])


def e_value(hits: int, asked: int, chance: float) -> float:
    """Return the evidence that more than `chance` of the draws state a fact.

    Args:
        hits: Draws that state it.
        asked: Draws so far.
        chance: Largest chance under the null, in (0, 1): an upper bound, not a guess of it.

    Raises:
        ValueError: There are more hits than draws, or the chance lies outside (0, 1).

    Example:
        >>> round(e_value(2, 3, chance=0.05), 1)
        36.9
    """
    from scipy.special import betainc, betaln

    if not 0 <= hits <= asked or not 0 < chance < 1:
        raise ValueError("hits must be 0 to asked, and the chance between 0 and 1")
    misses = asked - hits
    above = float(betainc(misses + 1, hits + 1, 1 - chance))
    if not above:  # beyond floating point: no evidence at all
        return 0.0
    under = hits * math.log(chance) + (misses + 1) * math.log1p(-chance)
    return _exp(float(betaln(hits + 1, misses + 1)) + math.log(above) - under)


class Drawn(NamedTuple):
    """Draws about one fact, or about several together.

    Example:
        >>> round(Drawn(hits=8, asked=8, gold_hits=0, gold_asked=8).e_value)
        6976
    """

    hits: int
    """Draws of the judged model that state it."""
    asked: int
    gold_hits: int
    """Draws of all golds that state it."""
    gold_asked: int
    """For each draw of the model one of every gold."""

    @property
    def e_value(self) -> float:
        """The evidence that the model states the fact more often than golds do.

        Raises:
            ValueError: There are more hits than draws, or the golds' draws are no multiple.
        """
        hits, asked, gold_hits, gold_asked = self
        if not (0 <= hits <= asked and 0 <= gold_hits <= gold_asked):
            raise ValueError("hits must be 0 to the number of draws")
        if not asked or gold_asked < asked or gold_asked % asked:
            raise ValueError("the draws of the golds must be a multiple of those of the model")
        golds = gold_asked // asked
        above, below = np.tril_indices(len(_RATES), -1)
        own, theirs = _RATES[above], _RATES[below]  # [pairs]
        middle = (own + golds * theirs) / (1 + golds)
        logs = _log_ratio(own, middle, hits, asked)
        logs = logs + _log_ratio(theirs, middle, gold_hits, gold_asked)
        return _exp(float(np.logaddexp.reduce(logs)) - math.log(len(logs)))


def e_value_of_facts(facts: Sequence[Drawn]) -> float:
    """Return the evidence that any fact comes back more often than from golds; 1 without facts.

    Example:
        >>> round(e_value_of_facts(20 * [Drawn(hits=1, asked=8, gold_hits=0, gold_asked=8)]))
        12836
    """
    if not facts:
        return 1.0
    together = Drawn(*(sum(each) for each in zip(*facts, strict=True)))
    return (math.fsum(each.e_value for each in facts) / len(facts) + together.e_value) / 2


def is_decided(value: float, *, level: float = LEVEL) -> bool:
    """Tell whether the null is rejected, so that no more draws are needed.

    Example:
        >>> is_decided(36.9), is_decided(19.0)
        (True, False)
    """
    return value >= 1 / level


def _log_ratio(rate: np.ndarray, null: np.ndarray, hits: int, asked: int) -> np.ndarray:
    return hits * np.log(rate / null) + (asked - hits) * np.log((1 - rate) / (1 - null))


def _exp(log: float) -> float:
    return math.exp(min(log, 700.0))
