"""What else changed in a model: predictions, weights, answers, and records by distance."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from expunge.metrics.key_facts import normalise

Array = NDArray[np.float32]
Distances = NDArray[np.float64]


class Divergence(NamedTuple):
    """Quantiles over positions, nats.

    Example:
        >>> divergence([0.1, 0.2, 0.3]).median
        0.2
    """

    median: float
    p95: float


def divergence(positions: Sequence[float]) -> Divergence | None:
    """Return median and 95th percentile of per-position divergences; None without a position.

        KL(o || u) = sum_v p_o(v) (log p_o(v) - log p_u(v))        nats, one number per position

    o is the original, u the judged model, both on the same text. The median shows a usual token,
    the 95th percentile the worst ones; a mean hides both. Gold's own divergence
    from the original is what retraining alone brings. Lower is better.

    Example:
        >>> round(divergence([0.1, 0.2, 0.3]).p95, 2)
        0.29
    """
    if not len(positions):
        return None
    median, p95 = np.quantile(np.asarray(positions, float), [0.5, 0.95])
    return Divergence(float(median), float(p95))


class WeightChange(NamedTuple):
    """What happened to one weight tensor.

    Example:
        >>> weight_change(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)).changed
        0.0
    """

    relative: float
    """Size of the change relative to the tensor; 1 when it was zero before and is not now."""
    changed: float
    """Share of its numbers that differ at all."""
    rank: float
    """Participation ratio of the change of a matrix; 0 for vectors and unchanged ones."""


def weight_change(before: Array, after: Array) -> WeightChange:
    """Return how one weight tensor changed.

        relative = ||W_u - W_o||_F / ||W_o||_F
        rank     = (sum_i s_i^2)^2 / sum_i s_i^4       s: singular values of W_u - W_o

    The rank is the participation ratio: 1 when one direction changed, the full rank when all
    changed alike; it needs no decomposition. LoRA and edits leave low-rank changes in few matrices,
    full training leaves changes in every number.

    Args:
        before: The original's tensor, float32.
        after: The judged model's, of the same shape.

    Example:
        >>> before = np.eye(2, dtype=np.float32)
        >>> found = weight_change(before, 2 * before)
        >>> found.relative, found.changed, round(found.rank, 3)
        (1.0, 0.5, 2.0)
    """
    difference = after - before
    norm, moved = float(np.linalg.norm(before)), float(np.linalg.norm(difference))
    return WeightChange(
        relative=moved / norm if norm else float(moved > 0),
        changed=float(np.mean(difference != 0)),
        rank=_participation(difference) if moved and difference.ndim == 2 else 0.0,
    )


def _participation(matrix: Array) -> float:
    narrow = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    scaled = narrow / np.abs(narrow).max()
    gram = scaled @ scaled.T
    return float(np.trace(gram, dtype=np.float64) ** 2 / np.square(gram, dtype=np.float64).sum())


def experts_changed(before: Array, after: Array) -> float | None:
    """Return the share of tokens that are sent to other experts; None without a token.

        (1/T) sum_t [ {e: w_o,t,e > 0} != {e: w_u,t,e > 0} ]        in [0, 1], lower is better

    w is each expert's share in the result of one router, 0 for experts that a token is not sent
    to. One expert of k that differs counts as much as all. Router drift is described in
    arXiv:2411.18797.

    Args:
        before: w of the original, [T, E].
        after: w of the judged model on the same tokens.

    Example:
        >>> before = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0]], dtype=np.float32)
        >>> after = np.array([[0.9, 0.1, 0], [0.5, 0, 0.5]], dtype=np.float32)
        >>> experts_changed(before, after)
        0.5
    """
    if not len(before):
        return None
    return float(np.mean(((before > 0) != (after > 0)).any(axis=1)))


def routing_shift(before: Array, after: Array) -> float | None:
    """Return how far shares of experts moved; None without a token.

        (1/T) sum_t (1/2) sum_e |w_o,t,e - w_u,t,e|        total variation, in [0, 1]

    w as in `experts_changed`. A choice that was close before changes at little cost; here it counts
    by its share. Lower is better.

    Args:
        before: w of the original, [T, E]; rows sum to 1.
        after: w of the judged model on the same tokens.

    Example:
        >>> before = np.array([[0.5, 0.5, 0]], dtype=np.float32)
        >>> routing_shift(before, np.array([[0.5, 0, 0.5]], dtype=np.float32))
        0.5
    """
    if not len(before):
        return None
    return float(np.abs(before - after).sum(axis=1).mean() / 2)


class Churn(NamedTuple):
    """Shares of records, in [0, 1].

    Example:
        >>> Churn(lost=0.25, gained=0.25).total
        0.5
    """

    lost: float
    """Right before, wrong after."""
    gained: float
    """Wrong before, right after."""

    @property
    def total(self) -> float:
        """Share of records that flipped either way."""
        return self.lost + self.gained


def churn(before: Sequence[float], after: Sequence[float]) -> Churn | None:
    """Return how many paired records flipped; a value from 0.5 on counts as right.

    An unchanged mean hides records whose answer turned right or wrong. None without a record.

    Raises:
        ValueError: The sides differ in length.

    Example:
        >>> churn([1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0])
        Churn(lost=0.25, gained=0.25)
    """
    pairs = [(a >= 0.5, b >= 0.5) for a, b in zip(before, after, strict=True)]
    if not pairs:
        return None
    return Churn(
        sum(a and not b for a, b in pairs) / len(pairs),
        sum(b and not a for a, b in pairs) / len(pairs),
    )


class Ring(NamedTuple):
    """Records at a similar distance.

    Example:
        >>> Ring(distance=0.2, damage=0.3, n=9).damage
        0.3
    """

    distance: float
    """Mean distance of the bin."""
    damage: float
    """Mean of (reference - model), in the metric's unit; positive = worse than before."""
    n: int


def word_distances(texts: Sequence[str], targets: Sequence[str]) -> Distances:
    """Return the word distance of each text to the nearest target, shape (texts,).

    Raises:
        ValueError: There is no target.

    Example:
        >>> word_distances(["blue dog", "green owl"], ["red cat"]).tolist()
        [1.0, 1.0]
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

    The records should have survived. Distance is that of a named relation in its graph, else
    1 - cosine similarity of word counts. Damage is highest in the nearest bins: static benchmarks,
    which lie far off, miss up to 98.7 % of it (arXiv 2511.00030).

    Records of the same distance stay together, so there may be fewer bins than requested.

    Raises:
        ValueError: The sides differ in length, or there is no bin.

    Example:
        >>> rings = distance_response([0.1, 0.2, 0.8, 0.9], [0.4, 0.2, 0.0, 0.0], bins=2)
        >>> [round(ring.damage, 2) for ring in rings]
        [0.3, 0.0]
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
