"""Rankings of training records for a set to forget, and what each is worth.

    S [m, m + n]: similarity of each of m records to forget with these m and n others
    score(d)   = mean of the 20 highest of S[:, d]; a record to forget is scored by the others alone
    recall     = share of the m records to forget among the m highest of all m + n scores
    recall@k   = share of planted variants among the k highest of the n others

The first measure needs no labels: the user's own records say how well a ranking finds such records.
Unknown members among the n others count against every ranking alike. A record counts as missed when
its score is above median + 4 * 1.4826 MAD of the others, and above half the median of the m records
to forget. The weakest of these is no bar: one that is unlike the rest would let everything in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, mannwhitneyu

NEAREST = 20
"""Records to forget that a record is compared with: those nearest to it."""
NOISE = 4.0
_MAD = 1.4826
"""Makes the median absolute deviation a standard deviation where scores are normal."""
_HALF = 0.5
"""Share of the usual score of a record to forget that a missed one has at least."""
_SURE = 0.05
LEXICAL = "bm25"


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordRanking:
    """Scores of one ranking."""

    name: str
    own: NDArray[np.float64]
    """Of each record to forget, [m], by the others."""
    others: NDArray[np.float64]
    """Of each other record, [n]."""

    @property
    def hits(self) -> NDArray[np.bool_]:
        """Which records to forget are among the m highest; of equal scores others come first."""
        above = (self.others[None] >= self.own[:, None]).sum(1)
        above += (self.own[None] > self.own[:, None]).sum(1)
        return above < len(self.own)

    @property
    def recall(self) -> float:
        """Share of the records to forget that it finds."""
        return float(self.hits.mean())

    @property
    def auc(self) -> float:
        """Probability that a record to forget is above another one."""
        if not len(self.others):
            return 1.0
        above = mannwhitneyu(self.own, self.others).statistic
        return float(above) / (len(self.own) * len(self.others))

    @property
    def order(self) -> list[int]:
        """Places of the others, the highest score first."""
        return [int(place) for place in np.argsort(-self.others, kind="stable")]

    def recalled(self, variants: Sequence[int], *, top: int) -> NDArray[np.bool_]:
        """Return which of some others are among the `top` highest."""
        return np.isin(np.asarray(variants), self.order[:top])

    @property
    def missed(self) -> list[int]:
        """Others that look like records to forget, the highest score first."""
        if not len(self.others):
            return []
        middle = float(np.median(self.others))
        spread = _MAD * float(np.median(np.abs(self.others - middle)))
        bar = max(_HALF * float(np.median(self.own)), middle + NOISE * spread)
        return [place for place in self.order if self.others[place] > bar]


def ranking(name: str, similarity: NDArray[np.floating]) -> RecordRanking:
    """Return the scores that follow from similarities, [m, m + n], m at least 2.

    Example:
        >>> same = np.array([[1.0, 0.9, 0.1], [0.9, 1.0, 0.3]])
        >>> ranking("bm25", same).own.tolist()
        [0.9, 0.9]
    """
    count = len(similarity)
    own = similarity[:, :count].astype(np.float64)
    np.fill_diagonal(own, -np.inf)
    others = similarity[:, count:].astype(np.float64)
    nearest = min(NEAREST, count - 1)
    return RecordRanking(name=name, own=_nearest(own, nearest), others=_nearest(others, nearest))


def _nearest(scores: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    return np.sort(scores, axis=0)[::-1][:count].mean(0)


def recommended(
    rankings: Sequence[RecordRanking], *, variants: Sequence[int] = (), top: int = 40
) -> RecordRanking:
    """Return the ranking to use: BM25, unless another one is better and not by chance.

    Better: it finds more planted variants in the `top` highest, or without these more records to
    forget; the one-sided sign test on those that only one of both finds is below 0.05.

    Args:
        rankings: Among them BM25.
        variants: Places of planted variants among the others.
        top: How far down variants may stand.
    """
    (lexical,) = (each for each in rankings if each.name == LEXICAL)

    def found(each: RecordRanking) -> NDArray[np.bool_]:
        return each.recalled(variants, top=top) if variants else each.hits

    base = found(lexical)
    able = [each for each in rankings if _beats(found(each), base)]
    return max(able, key=lambda each: float(found(each).mean()), default=lexical)


def _beats(found: NDArray[np.bool_], base: NDArray[np.bool_]) -> bool:
    gained, lost = int((found & ~base).sum()), int((base & ~found).sum())
    if gained <= lost:
        return False
    return float(binomtest(gained, gained + lost, alternative="greater").pvalue) < _SURE
