"""Distance response: how much was damaged, and how far from the target.

Records that should have survived are ordered by distance from the forget set: the graph distance of
a relation where one is named, else 1 - cosine similarity of word counts. Damage is highest in the
nearest bins; static benchmarks, which lie far off, miss up to 98.7 % of it (arXiv 2511.00030).
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from expunge.audit.metrics.text import normalise

Array = NDArray[np.float64]

HARMLESS = 0.02
"""Damage below which a bin counts as untouched: two points."""


class Ring(NamedTuple):
    """Records at a similar distance."""

    distance: float
    """Mean distance of the bin."""
    damage: float
    """Mean of (reference - model), in the metric's unit; positive = worse than before."""
    n: int


def word_distance(text: str, targets: Sequence[str]) -> float:
    """Return 1 - the largest cosine similarity of word counts to a target, in [0, 1].

    Words are weighted by the logarithm of their rarity among `targets` and `text`, so that the
    frame of a question counts less than its names. 1 when no word is shared.

    Raises:
        ValueError: There is no target.
    """
    return float(word_distances([text], targets)[0])


def word_distances(texts: Sequence[str], targets: Sequence[str]) -> Array:
    """Return the word distance of each text to the nearest target, shape (texts,).

    Raises:
        ValueError: There is no target.
    """
    if not targets:
        raise ValueError("a distance needs something to be distant from")
    bags = [Counter(normalise(text).split()) for text in (*texts, *targets)]
    held = Counter(word for bag in bags for word in bag)
    weight = {word: math.log(1 + len(bags) / count) for word, count in held.items()}
    index = {word: place for place, word in enumerate(weight)}
    matrix = np.zeros((len(bags), max(1, len(index))))
    for row, bag in enumerate(bags):
        for word, count in bag.items():
            matrix[row, index[word]] = count * weight[word]
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    unit = matrix / np.where(norms > 0, norms, 1)
    similar = unit[: len(texts)] @ unit[len(texts) :].T
    return np.clip(1 - similar.max(axis=1), 0.0, 1.0)


def distance_response(
    distances: Sequence[float], damage: Sequence[float], *, bins: int = 4
) -> tuple[Ring, ...]:
    """Return the mean damage in bins of equal size, the nearest first.

    Records of the same distance stay together, so there may be fewer bins than asked for.

    Raises:
        ValueError: The sides differ in length, or there is no bin.
    """
    if len(distances) != len(damage) or bins < 1:
        raise ValueError("each record needs one distance and one damage, and a bin to lie in")
    far, lost = np.asarray(distances, float), np.asarray(damage, float)
    if not len(far):
        return ()
    edges = np.quantile(far, np.linspace(0, 1, bins + 1)[1:-1], method="lower")
    member = np.searchsorted(np.unique(edges), far, side="left")
    return tuple(
        Ring(float(far[rows].mean()), float(lost[rows].mean()), len(rows))
        for rows in (np.flatnonzero(member == b) for b in np.unique(member))
    )


def harmless_radius(rings: Sequence[Ring], *, harmless: float = HARMLESS) -> float | None:
    """Return the distance from which on every bin lost less than `harmless`.

    None when even the farthest bin lost more: the damage has no edge within what was measured.
    """
    radius = None
    for ring in reversed(rings):
        if ring.damage >= harmless:
            break
        radius = ring.distance
    return radius
