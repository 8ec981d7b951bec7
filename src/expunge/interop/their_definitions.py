"""Our evidence, counted bug for bug as open-unlearning counts: to find its numbers again.

Only where the peer's code departs from its own definition (E1 to E5 of
docs/catalogue/differences.md). Their published tables hold these numbers, so a comparison needs
them; no gate reads them. A module of its own, so that a call names whose definition it is.
"""

import math
from collections.abc import Sequence

from expunge.evidence.store import Choices, Item, Scores


def extraction_strength(scores: Scores) -> float:
    """Return their ES: the last scored token is dropped by position, the floor is 1/T, not 0.

    Their loop ends at k = T - 1 whether or not the last token matches (E1), and a record without a
    token scores 0 and enters the mean (E2).
    """
    hits = scores.hit[:-1]
    if not hits:
        return 0.0
    k = next((k for k in range(len(hits)) if all(hits[k:])), len(hits) - 1)
    return 1 - k / len(hits)


def exact_memorisation(scores: Scores) -> float | None:
    """Return their EM: the last scored token is dropped by position, end token or not (E4)."""
    hits = scores.hit[:-1]
    return sum(hits) / len(hits) if hits else None


def loss(scores: Scores, item: Item) -> float | None:
    """Return their mean loss, nats: the end token is scored (E4).

    The sum is divided by the number of labels before the shift (E3). For a question that is the
    number of scored tokens, because the prompt is masked; for plain text it is one more.
    """
    if not scores.logp:
        return None
    labels = len(scores.logp) + (0 if item.question else 1)
    return -math.fsum(scores.logp) / labels


def probability(scores: Scores, item: Item) -> float | None:
    """Return exp(-loss) with their loss."""
    found = loss(scores, item)
    return None if found is None else math.exp(-found)


def min_k(scores: Scores, share: float = 0.4) -> float | None:
    """Return their Min-K as a loss (higher = non-member): the last token is dropped (E4)."""
    logp = sorted(scores.logp[:-1])
    return -math.fsum(logp[: (k := max(1, int(share * len(logp))))]) / k if logp else None


def zlib(scores: Scores, item: Item) -> float | None:
    """Return their zlib score: their loss (`loss`) over the bytes of the compressed answer."""
    found = loss(scores, item)
    return None if found is None else found / scores.zlib


def min_k_plus(scores: Scores, share: float = 0.4) -> float | None:
    """Return their Min-K++ as a loss: the last token is dropped (E4), k is 40 %."""
    z = sorted(scores.z[:-1])
    return -math.fsum(z[: (k := max(1, int(share * len(z))))]) / k if z else None


def truth_ratio(choices: Choices) -> float | None:
    """Return their truth ratio p(wrong) / p(correct), the geometric mean over wrong answers.

    The end token is scored (E4), and 1e-10 is added below the line.
    """
    if not choices.ending or len(choices.logp) < 2:
        return None
    losses = [
        -(logp + ending) / (tokens + 1)
        for logp, ending, tokens in zip(choices.logp, choices.ending, choices.tokens, strict=True)
    ]
    wrong = [value for place, value in enumerate(losses) if place != choices.correct]
    return math.exp(-math.fsum(wrong) / len(wrong)) / (math.exp(-losses[choices.correct]) + 1e-10)


def gradient(norms: Sequence[float]) -> float | None:
    """Return their gradient score: the mean of the tensors' norms, not the global norm (E5).

    Their switch to training mode, which adds dropout noise, is not repeated.
    """
    return math.fsum(norms) / len(norms) if norms else None
