"""Is the holdout comparable? Two checks before any membership number, and a way to mend it.

A membership AUC means something only when members and non-members differ in nothing else. Two
models that cannot know the answer must fail to tell them apart: one never trained on either, and a
bag of words, which sees topic and style only (arXiv 2406.17975). Partition one corpus; a holdout
written later is different text.

Difficulty can be matched: pairs within a caliper on a never-trained model's loss.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from expunge.audit.metrics.text import normalise

Array = NDArray[np.float64]

CALIPER = 0.05
"""Largest difference in mean log-probability of a matched pair, nats per token."""

CHANCE = (0.45, 0.55)
"""Where an AUC must lie that cannot know the answer."""

FOLDS = 5


class Words(NamedTuple):
    """Out-of-fold scores of the bag of words; higher = worded like a member."""

    members: Array
    others: Array


def word_scores(
    members: Sequence[str],
    others: Sequence[str],
    *,
    member_groups: Sequence[str],
    other_groups: Sequence[str],
    seed: int,
    folds: int = FOLDS,
) -> Words | None:
    """Return log P(text | members) - log P(text | others) per word, by naive Bayes.

    Multinomial, Laplace smoothing, equal priors; each text is scored by counts of the other folds.
    Groups (subjects) stay whole: else the name of a person in one fold gives away all others.

    Args:
        members: Texts of the forget set.
        others: Texts of the comparison set.
        member_groups: Group of each member text.
        other_groups: Group of each other text.
        seed: Seed of the folds.
        folds: Number of folds.

    Returns:
        None when a side has fewer groups than two: then nothing is left to learn from.
    """
    parts = [
        _folds(groups, folds=folds, seed=seed + side)
        for side, groups in enumerate((member_groups, other_groups))
    ]
    if any(len(set(part)) < 2 for part in parts):
        return None
    bags = [[Counter(normalise(text).split()) for text in side] for side in (members, others)]
    size = len({word for side in bags for bag in side for word in bag}) + 1
    whole = [_counts(side) for side in bags]
    held = [_by_fold(side, part) for side, part in zip(bags, parts, strict=True)]
    found = [
        np.array(
            [
                _score(bag, fold, whole=whole, held=held, size=size)
                for bag, fold in zip(side, part, strict=True)
            ]
        )
        for side, part in zip(bags, parts, strict=True)
    ]
    return Words(*found)


def comparable(value: float, low: float, high: float, *, n: int, enough: int = 59) -> bool:
    """Tell whether an AUC that cannot know the answer is at chance.

    Its 95 % interval holds 0.5 and, from `enough` records on, it lies within 0.45-0.55; with fewer,
    sampling noise alone leaves that range.
    """
    near = n < enough or CHANCE[0] <= value <= CHANCE[1]
    return low <= 0.5 <= high and near


def matched(
    members: Sequence[float], others: Sequence[float], *, caliper: float = CALIPER
) -> list[tuple[int, int]]:
    """Return index pairs of equal difficulty, as many as there can be.

    Args:
        members: Mean log-probability of each member under a never-trained model, nats per token.
        others: The same of the others.
        caliper: Largest difference within a pair.
    """
    left, right = np.argsort(np.asarray(members)), np.argsort(np.asarray(others))
    pairs: list[tuple[int, int]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        gap = members[left[i]] - others[right[j]]
        if abs(gap) <= caliper:
            pairs.append((int(left[i]), int(right[j])))
            i, j = i + 1, j + 1
        elif gap < 0:
            i += 1
        else:
            j += 1
    return pairs


def _folds(groups: Sequence[str], *, folds: int, seed: int) -> list[int]:
    """Deal whole groups to folds, the largest first, each to the emptiest fold."""
    sizes = Counter(groups)
    names = sorted(sizes)
    np.random.default_rng(seed).shuffle(names)
    load, place = [0] * folds, dict[str, int]()
    for name in sorted(names, key=lambda each: -sizes[each]):
        place[name] = load.index(min(load))
        load[place[name]] += sizes[name]
    return [place[name] for name in groups]


def _counts(bags: Sequence[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for bag in bags:
        total.update(bag)
    return total


def _by_fold(bags: Sequence[Counter[str]], folds: Sequence[int]) -> dict[int, Counter[str]]:
    return {
        fold: _counts([bag for bag, own in zip(bags, folds, strict=True) if own == fold])
        for fold in set(folds)
    }


def _score(
    bag: Counter[str],
    fold: int,
    *,
    whole: Sequence[Counter[str]],
    held: Sequence[dict[int, Counter[str]]],
    size: int,
) -> float:
    """Mean over words of log P(word | members) - log P(word | others), without the own fold."""
    sums: list[float] = []
    for every, folds in zip(whole, held, strict=True):
        out = folds.get(fold, Counter())
        total = every.total() - out.total() + size
        sums.append(
            sum(n * np.log((every[word] - out[word] + 1) / total) for word, n in bag.items())
        )
    return float(sums[0] - sums[1]) / max(1, bag.total())
