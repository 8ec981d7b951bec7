"""Exact memorisation: the share of answer tokens that the model gets right."""

from expunge.audit.evidence import Scores


def exact_memorisation(scores: Scores) -> float | None:
    """Return (1/T) sum_t [argmax p(. | x, y_<t) = y_t]; None without a content token.

    In [0, 1] and never below the extraction strength of the same tokens (arXiv 2205.10770).
    """
    hits = scores.hit[: max(scores.content, 0)]
    return sum(hits) / len(hits) if hits else None
