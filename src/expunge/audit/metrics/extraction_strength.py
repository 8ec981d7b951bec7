"""Extraction strength: how much of the answer the model completes by itself."""

from collections.abc import Sequence

from expunge.audit.evidence import Scores


def extraction_strength(scores: Scores) -> float | None:
    """Return 1 - k/T, in {0, 1/T, ..., 1}; None without a content token.

    k is the smallest number of leading tokens after which every remaining token is the model's
    most likely one (teacher forced). k = T is allowed, so the floor is 0 (arXiv 2506.12618
    section 3; common implementations stop at k = T - 1 and never reach 0).
    """
    return hits_strength(scores.hit[: max(scores.content, 0)])


def hits_strength(hits: Sequence[bool]) -> float | None:
    """Return the same from the content tokens alone: which of them are the most likely ones."""
    if not hits:
        return None
    tail = 0
    for hit in reversed(hits):
        if not hit:
            break
        tail += 1
    return tail / len(hits)
