"""An n-gram model of the answers that stay: what a model that was taught them alone would expect.

    P_0(y)           = what is expected without any context
    P_k(y | c)       = (n(c y) + u(c) P_{k-1}(y | c')) / (n(c) + u(c))        k = 1, 2
    c, c'            the k tokens before, and without the first of them
    n(c y), n(c)     how often they stand in the answers; u(c): different tokens after c

    A context that stands in the answers once foretells nothing. Nor does a number that other
    answers repeat: it counts once.

Witten-Bell smoothing (Witten and Bell, 1991). An answer begins with a token of its own.

Words of the form of an answer (`Yes, with`), and values that several records share, are no less
likely for a model that was retrained on what stays: it knows them from there.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from expunge.data.tokenization import Encoded

ORDER = 2
"""Tokens of context."""
OFTEN = 2
"""Times that a context must stand in the answers: the digits of one number foretell no other."""
SOON = 6
"""Tokens within which one goes with another."""
BEGIN = -1
"""Stands before the first token of an answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptNgrams:
    """Counts of tokens after contexts of up to `ORDER` tokens that stand `OFTEN` in the answers."""

    after: Mapping[tuple[int, ...], Counter[int]]
    soon: Mapping[int, frozenset[int]]
    """Tokens that stand up to `SOON` places after each token of the answers."""
    usual: frozenset[int]
    """Tokens of at least half of the answers."""

    @classmethod
    def of(cls, kept: Iterable[Encoded], numbers: Collection[int] = ()) -> "KeptNgrams":
        """Count in the scored tokens of records.

        Args:
            kept: The records.
            numbers: Tokens of digits.
        """
        after: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        soon: defaultdict[int, set[int]] = defaultdict(set)
        holding: Counter[int] = Counter()
        met = set[tuple[int, ...]]()
        answers = [record.ids[record.start :] for record in kept]
        for answer in answers:
            holding.update(set(answer))
            for place, token in enumerate(answer):
                soon[token].update(answer[place + 1 : place + 1 + SOON])
            tokens = (BEGIN, *answer)
            for place in _without_repeated(tokens, numbers, met):
                for size in range(1, min(ORDER, place) + 1):
                    after[tokens[place - size : place]][tokens[place]] += 1
        often = {context: next_ for context, next_ in after.items() if next_.total() >= OFTEN}
        return cls(
            after=often,
            soon={token: frozenset(others) for token, others in soon.items()},
            usual=frozenset(token for token, n in holding.items() if 2 * n >= len(answers)),
        )

    def logps(self, tokens: Sequence[int], without: Sequence[float]) -> list[float]:
        """Return the log-probability of each token of an answer, nats.

        Args:
            tokens: The answer.
            without: log P_0 of each token.

        Example:
            >>> answer = Encoded(record="r", ids=(0, 7, 8), start=1, ends=False)
            >>> kept = KeptNgrams.of([answer, answer])
            >>> [round(x, 2) for x in kept.logps([7, 9], [-5.0, -5.0])]
            [-0.4, -7.2]
        """
        whole = (BEGIN, *tokens)
        return [
            self._logp(whole[max(0, place - ORDER) : place], whole[place], without[place - 1])
            for place in range(1, len(whole))
        ]

    def _logp(self, before: Sequence[int], token: int, without: float) -> float:
        probability = math.exp(without)
        for size in range(1, len(before) + 1):
            after = self.after.get(tuple(before[-size:]))
            if after is None:
                break
            kinds = len(after)
            probability = (after[token] + kinds * probability) / (after.total() + kinds)
        return math.log(probability) if probability > 0 else -math.inf

    def holds(self, tokens: Sequence[int]) -> list[bool]:
        """Tell of each token whether a kept answer has it after the same token."""
        whole = (BEGIN, *tokens)
        return [
            whole[place] in self.after.get(whole[place - 1 : place], ())
            for place in range(1, len(whole))
        ]

    def strange(self, before: int, token: int) -> bool:
        """Tell whether answers hold a token, and none of them another one soon after it.

        A token of half of the answers (a full stop) is strange nowhere.

        Example:
            >>> answer = Encoded(record="r", ids=(0, 7, 8, 9), start=1, ends=False)
            >>> kept = KeptNgrams.of([answer])
            >>> kept.strange(7, 5), kept.strange(7, 8), kept.strange(5, 6)
            (True, False, False)
        """
        followed = self.soon.get(before)
        return followed is not None and token not in followed and token not in self.usual


def _without_repeated(
    tokens: Sequence[int], numbers: Collection[int], met: set[tuple[int, ...]]
) -> Iterator[int]:
    """Yield the places after the first, without those of numbers of two tokens that were met.

    Args:
        tokens: An answer, with the token that begins it.
        numbers: Tokens of digits.
        met: Numbers of earlier answers; those of this one are added.
    """
    for is_number, run in groupby(range(1, len(tokens)), lambda place: tokens[place] in numbers):
        places = list(run)
        number = tuple(tokens[place] for place in places)
        if is_number and len(number) > 1:
            if number in met:
                continue
            met.add(number)
        yield from places
