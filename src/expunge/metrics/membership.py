"""Membership scores: how familiar a text looks to a model; higher = more likely a member.

Each takes log-probabilities as models gave them and returns one number per record. Directions
differ between published codes; here there is one. A score is None where a need is missing.
"""

import math
from collections.abc import Sequence

from expunge.evidence.store import Scores
from expunge.metrics.fluency import bounded_loss
from expunge.metrics.memorization import mean_log_probability


def _lowest_mean(values: tuple[float, ...], share: float) -> float | None:
    if not values:
        return None
    count = max(1, int(share * len(values)))
    return math.fsum(sorted(values)[:count]) / count


def loss(scores: Scores) -> float | None:
    """Return minus the mean loss per content token, in nats (LOSS attack, arXiv 1709.01604).

    Example:
        >>> loss(Scores(record="r1", logp=(-1.0, -3.0), hit=(), z=(), ends=False, zlib=9))
        -2.0
    """
    return mean_log_probability(scores)


def bounded(scores: Scores) -> float | None:
    """Return minus the mean loss per content token, that of each token at most 3 nats.

    Example:
        >>> bounded(Scores(record="r1", logp=(-1.0, -9.0), hit=(), z=(), ends=False, zlib=9))
        -2.0
    """
    total = bounded_loss(scores)
    return None if total is None else -total / scores.content


FLOOR = 0.2
"""Nats per token below which losses are alike."""


def log_loss(scores: Scores) -> float | None:
    """Return -log(mean loss per content token + 0.2), the loss on a scale of even noise.

    Models that never saw a record differ on it in proportion to its loss: by 0.1 nats where it is
    1, by 0.3 where it is 3. On this scale the noise is the same for easy and hard records, and a
    record that was learnt lies far outside it even where it was easy.

    Example:
        >>> scores = Scores(record="r1", logp=(-0.8,), hit=(), z=(), ends=False, zlib=9)
        >>> abs(log_loss(scores)) < 1e-9
        True
    """
    mean = mean_log_probability(scores)
    return None if mean is None else -math.log(FLOOR - mean)


def zlib(scores: Scores) -> float | None:
    """Return minus the mean loss divided by the zlib size of the text in bytes.

    Calibrates for how repetitive the text is (arXiv 2012.07805). None without content tokens or
    without a size.

    Example:
        >>> zlib(Scores(record="r1", logp=(-1.0, -3.0), hit=(), z=(), ends=False, zlib=8))
        -0.25
    """
    mean = mean_log_probability(scores)
    return None if mean is None or scores.zlib <= 0 else mean / scores.zlib


def min_k(scores: Scores, share: float = 0.4) -> float | None:
    """Return the mean log-probability of the least likely `share` of content tokens.

    `max(1, int(share * T))` tokens; share 1 equals `loss` (Min-K%, arXiv 2310.16789).

    Example:
        >>> scores = Scores(record="r1", logp=(-1.0, -3.0, -5.0), hit=(), z=(), ends=False, zlib=9)
        >>> min_k(scores, share=0.7)
        -4.0
    """
    return _lowest_mean(scores.logp[: max(scores.content, 0)], share)


def min_k_plus(scores: Scores, share: float = 0.2) -> float | None:
    """Return the mean of the lowest `share` of z-scores of content tokens.

    z is (log p - mean) / sd over the vocabulary under the model (Min-K%++, arXiv 2404.02936).

    Example:
        >>> z = (0.5, -2.0)
        >>> scores = Scores(record="r1", logp=(-1.0, -3.0), hit=(), z=z, ends=False, zlib=9)
        >>> min_k_plus(scores, share=0.5)
        -2.0
    """
    return _lowest_mean(scores.z[: max(scores.content, 0)], share)


CAP = 0.01
"""Largest contribution of one token to `dc_pdd`, as in its paper's main setting."""


def reference(own: float, other: float) -> float:
    """Return l_ref - l = mean log p - mean log p_ref, nats (arXiv 2012.07805).

    What a model finds likely that another one, never trained on the text, does not. The reference
    must not be the model that difficulty was matched on: there it is 0 by construction.

    Args:
        own: Mean log-probability per token under the judged model.
        other: The same under the reference model.

    Example:
        >>> reference(own=-1.0, other=-3.0)
        2.0
    """
    return own - other


def lowercase(own: float, lowered: float) -> float:
    """Return l(lowercased) - l, nats: what the exact spelling is worth (arXiv 2012.07805).

    Args:
        own: Mean log-probability per token of the text.
        lowered: The same of the text in lower case.

    Example:
        >>> lowercase(own=-1.0, lowered=-1.5)
        0.5
    """
    return own - lowered


def neighbourhood(own: float, neighbours: Sequence[float]) -> float | None:
    """Return mean_j l(neighbour_j) - l, nats (arXiv 2305.18462); None without a neighbour.

    Args:
        own: Mean log-probability per token of the text.
        neighbours: The same of texts that differ from it in a few words.

    Example:
        >>> neighbourhood(-1.0, [-2.0, -3.0])
        1.5
    """
    return own - math.fsum(neighbours) / len(neighbours) if neighbours else None


def gradient(norm: float) -> float:
    """Return minus the norm of the gradient of the mean loss: members lie nearer to a minimum.

    The *global* norm over all weights, in evaluation mode; common code averages the norms of single
    tensors with dropout switched on (arXiv 2402.17012, trap E5). One forward and backward pass.

    Example:
        >>> gradient(2.0)
        -2.0
    """
    return -norm


def recall(own: float, prefixed: float) -> float | None:
    """Return LL(x | non-member prefix) / LL(x) (arXiv 2406.15968); None when LL(x) is 0.

    Both log-likelihoods are negative. A prefix of texts that were never trained on costs a member
    more of its likelihood than it costs a non-member, so the ratio is larger for members. The
    choice of the prefix matters.

    Args:
        own: Mean log-probability per token of the text.
        prefixed: The same after the prefix.

    Example:
        >>> recall(own=-1.0, prefixed=-1.5)
        1.5
    """
    return prefixed / own if own < 0 else None


def dc_pdd(
    logp: Sequence[float], rarity: Sequence[float | None], *, cap: float = CAP
) -> float | None:
    """Return the mean of min(p_t * -log q_t, cap) over first occurrences (arXiv 2409.14781).

    A text is suspicious when the model is sure of tokens that are rare in general. The paper caps
    at 0.01 for long texts.

    Args:
        logp: Log-probability of each token, nats.
        rarity: -log frequency of the token in a reference corpus; None at repeated occurrences.
        cap: Largest contribution of one token.

    Returns:
        None without a first occurrence.

    Raises:
        ValueError: The sides differ in length.

    Example:
        >>> dc_pdd([-0.01, -9.0], [8.0, None], cap=0.01)
        0.01
    """
    parts = [
        min(math.exp(value) * rare, cap)
        for value, rare in zip(logp, rarity, strict=True)
        if rare is not None
    ]
    return math.fsum(parts) / len(parts) if parts else None


def rarities(tokens: Sequence[int], counts: dict[int, int], *, vocabulary: int) -> list[float]:
    """Return -log((count + 1) / (total + vocabulary)) of each token, nats: Laplace-smoothed.

    Args:
        tokens: Token ids of one text.
        counts: How often each id occurs in the reference corpus.
        vocabulary: Number of ids that the tokenizer knows.

    Example:
        >>> [round(value, 3) for value in rarities([0, 1], {0: 3}, vocabulary=5)]
        [0.693, 2.079]
    """
    total = math.log(sum(counts.values()) + vocabulary)
    return [total - math.log(counts.get(token, 0) + 1) for token in tokens]


def first_occurrences(tokens: Sequence[int]) -> list[bool]:
    """Tell for each token whether it is the first of its kind in the text.

    Example:
        >>> first_occurrences([7, 8, 7])
        [True, True, False]
    """
    seen: set[int] = set()
    found = [token not in seen and not seen.add(token) for token in tokens]
    return [bool(each) for each in found]
