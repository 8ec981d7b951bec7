"""Perplexity of a set of texts."""

import math
from collections.abc import Iterable

from expunge.audit.evidence import Scores


def perplexity(rows: Iterable[Scores]) -> float | None:
    """Return exp(total negative log-probability / number of content tokens); None without tokens.

    Weighted by tokens, not by texts: long texts count more, as in the usual definition.
    """
    tokens = [logp for row in rows for logp in row.logp[: max(row.content, 0)]]
    return math.exp(-math.fsum(tokens) / len(tokens)) if tokens else None
