"""Monitoring: whether a model states erased facts again, asked as often as one likes.

In round t, n_t facts were never stated before, and x_t of them are stated for the first time. Under
the null hypothesis each of them is stated with probability c or less, whatever was said before:

    e_t = e_value(x_t, n_t, c)      S_t = e_t (S_{t-1} + w_t)      w_t = 1 / (t (t + 1))
    E_t = S_t + 1 / (t + 1)

E[e_t] <= 1 given all earlier rounds. So E_t, a mixture over the round in which the facts came back,
is an e-process. Ville's inequality: it ever reaches 1/a with probability a or less, however many
rounds are asked and whenever one looks (arXiv:2210.01948). Dimensionless, higher = more came back.

A fact counts once. A model that says the same in every round so gives no new evidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from expunge.metrics.e_values import e_value

LEAST_CHANCE = 0.05
"""Least chance c that is granted: a fact that no reference model states is guessed in 1 of 20."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundCounts:
    """What one round of questions found.

    Example:
        >>> RoundCounts(at_risk=20, fresh=0).fresh
        0
    """

    at_risk: int
    """Facts that were not stated in any earlier round."""
    fresh: int
    """How many of these are stated now."""


_e_value = lru_cache(maxsize=4096)(e_value)


def e_process(rounds: Sequence[RoundCounts], *, chance: float) -> list[float]:
    """Return the e-process after each round.

    Args:
        rounds: In the order in which they were asked.
        chance: Largest probability of a guess under the null hypothesis, in (0, 1).

    Example:
        >>> quiet, loud = RoundCounts(at_risk=4, fresh=0), RoundCounts(at_risk=4, fresh=4)
        >>> [value >= 20 for value in e_process([quiet, loud], chance=0.05)]
        [False, True]
    """
    found: list[float] = []
    running = 0.0
    for number, counts in enumerate(rounds, 1):
        weight = 1 / (number * (number + 1))
        running = min(_e_value(counts.fresh, counts.at_risk, chance) * (running + weight), 1e300)
        found.append(running + 1 / (number + 1))
    return found


def guess_chance(stated: Sequence[frozenset[str]], asked: frozenset[str]) -> float:
    """Return the chance that is granted, from models that never saw the facts.

    Args:
        stated: Facts that each of them states.
        asked: Facts that the audited model does not state.

    Returns:
        The share that one of them states and no other does, or `LEAST_CHANCE` where that is less.

    Example:
        >>> facts = frozenset("abcde")
        >>> round(guess_chance([frozenset("a"), frozenset("ab")], facts), 2)
        0.14
    """
    new = at_risk = 0
    for place, own in enumerate(stated):
        others = frozenset().union(*stated[:place], *stated[place + 1 :])
        at_risk += len(asked - others)
        new += len((own & asked) - others)
    return max(LEAST_CHANCE, new / at_risk if at_risk else 0.0)
