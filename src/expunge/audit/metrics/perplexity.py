"""Perplexity of a set of texts."""

import math
from collections.abc import Sequence

from expunge.audit.evidence import Scores


def total_loss(scores: Scores) -> float | None:
    """Return minus the sum of log p over content tokens in nats; None without a content token."""
    return -math.fsum(scores.logp[: scores.content]) if scores.content > 0 else None


def perplexity(losses: Sequence[float], tokens: Sequence[float]) -> float:
    """Return exp(total loss / number of tokens).

    Weighted by tokens, not by texts: long texts count more, as in the usual definition.

    Args:
        losses: Total loss of each text in nats, see `total_loss`.
        tokens: Number of content tokens of each text.

    Raises:
        ValueError: There is no token.
    """
    count = math.fsum(tokens)
    if count <= 0:
        raise ValueError("perplexity needs at least one token")
    return math.exp(math.fsum(losses) / count)
