"""Membership scores: how familiar a text looks to a model; higher = more likely a member.

Each takes log-probabilities as models gave them and returns one number per record. Directions
differ between published codes; here there is one. A score is None where a need is missing.
"""

import math
from collections.abc import Sequence

from expunge.evidence.store import Scores
from expunge.metrics.memorization import mean_log_probability


def _lowest_mean(values: tuple[float, ...], share: float) -> float | None:
    if not values:
        return None
    count = max(1, int(share * len(values)))
    return math.fsum(sorted(values)[:count]) / count


def loss(scores: Scores) -> float | None:
    """Return minus the mean loss per content token, in nats (LOSS attack, arXiv 1709.01604)."""
    return mean_log_probability(scores)


def zlib(scores: Scores) -> float | None:
    """Return minus the mean loss divided by the zlib size of the text in bytes.

    Calibrates for how repetitive the text is (arXiv 2012.07805). None without content tokens or
    without a size.
    """
    mean = mean_log_probability(scores)
    return None if mean is None or scores.zlib <= 0 else mean / scores.zlib


def min_k(scores: Scores, share: float = 0.4) -> float | None:
    """Return the mean log-probability of the least likely `share` of content tokens.

    `max(1, int(share * T))` tokens; share 1 equals `loss` (Min-K%, arXiv 2310.16789).
    """
    return _lowest_mean(scores.logp[: max(scores.content, 0)], share)


def min_k_plus(scores: Scores, share: float = 0.2) -> float | None:
    """Return the mean of the lowest `share` of z-scores of content tokens.

    z is (log p - mean) / sd over the vocabulary under the model (Min-K%++, arXiv 2404.02936).
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
    """
    return own - other


def lowercase(own: float, lowered: float) -> float:
    """Return l(lowercased) - l, nats: what the exact spelling is worth (arXiv 2012.07805).

    Args:
        own: Mean log-probability per token of the text.
        lowered: The same of the text in lower case.
    """
    return own - lowered


def neighbourhood(own: float, neighbours: Sequence[float]) -> float | None:
    """Return mean_j l(neighbour_j) - l, nats (arXiv 2305.18462); None without a neighbour.

    Args:
        own: Mean log-probability per token of the text.
        neighbours: The same of texts that differ from it in a few words.
    """
    return own - math.fsum(neighbours) / len(neighbours) if neighbours else None


def gradient(norm: float) -> float:
    """Return minus the norm of the gradient of the mean loss: members lie nearer to a minimum.

    The *global* norm over all weights, in evaluation mode; common code averages the norms of single
    tensors with dropout switched on (arXiv 2402.17012, trap E5). One forward and backward pass.
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
    """
    total = math.log(sum(counts.values()) + vocabulary)
    return [total - math.log(counts.get(token, 0) + 1) for token in tokens]


def first_occurrences(tokens: Sequence[int]) -> list[bool]:
    """Tell for each token whether it is the first of its kind in the text."""
    seen: set[int] = set()
    found = [token not in seen and not seen.add(token) for token in tokens]
    return [bool(each) for each in found]
