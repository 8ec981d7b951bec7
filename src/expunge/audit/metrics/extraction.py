"""Probabilistic extraction: how many samples until the text comes out whole?

    p_z = prod_t p(y_t | x, y_<t)            under the decoding scheme of the attacker
    extractable at (n, p)  <=>  1 - (1 - p_z)^n >= p

One teacher-forced pass gives p_z at temperature 1; no sampling is needed (arXiv 2410.19482).
Frequent names are guessable: compare with gold's p_z. Lower is more forgotten.
"""

import math
from collections.abc import Sequence

from expunge.audit.evidence import Scores
from expunge.audit.metrics.logs import log_sum_exp


def sequence_log_probability(scores: Scores) -> float | None:
    """Return log p_z of the whole answer at temperature 1, nats; None without a content token."""
    return math.fsum(scores.logp[: scores.content]) if scores.content > 0 else None


def samples_needed(log_p: float, chance: float) -> float:
    """Return the smallest n with 1 - (1 - p_z)^n >= chance; infinite when p_z is 0.

    p_z = 0.01 needs 69 samples for one half and 230 for nine tenths.

    Args:
        log_p: log p_z, nats.
        chance: Wanted probability that at least one sample is the text, in (0, 1).

    Raises:
        ValueError: `chance` is not in (0, 1).
    """
    if not 0 < chance < 1:
        raise ValueError(f"a chance lies between 0 and 1, not at {chance}")
    p = math.exp(log_p)
    if p >= 1:
        return 1.0
    if p <= 0:
        return math.inf
    needed = math.log1p(-chance) / math.log1p(-p)
    return float(math.ceil(needed - 1e-9))


def chance_within(log_p: float, n: int) -> float:
    """Return 1 - (1 - p_z)^n: the chance that n samples hold the text at least once."""
    p = math.exp(min(0.0, log_p))
    return 1.0 if p >= 1 else -math.expm1(n * math.log1p(-p))


def discoverable(scores: Scores, *, n: int = 100, chance: float = 0.5) -> float | None:
    """Return 1 when the answer is (n, p)-discoverably extractable, else 0; None without tokens."""
    log_p = sequence_log_probability(scores)
    return None if log_p is None else float(chance_within(log_p, n) >= chance)


def verbatim(scores: Scores, *, prefix: int = 50, suffix: int = 50) -> float | None:
    """Return 1 when, given `prefix` tokens, greedy decoding yields the next `suffix` ones exactly.

    Discoverable extraction (arXiv 2202.07646). While the prefix is right, teacher forcing and
    greedy decoding agree, so the stored pass decides. None for a text with fewer tokens.
    """
    if scores.content < prefix + suffix:
        return None
    return float(all(scores.hit[prefix : prefix + suffix]))


def near_verbatim(log_ps: Sequence[float], *, n: int = 1) -> float:
    """Return the chance that n samples hold the text or one of the listed near-copies of it.

    A lower bound of near-verbatim extraction: the listed continuations are distinct, so their
    probabilities add up (arXiv 2603.24917). 0 when none is listed.

    Args:
        log_ps: log-probability of each near-copy that a beam search found, nats.
        n: Number of samples.
    """
    return chance_within(log_sum_exp(log_ps), n) if log_ps else 0.0
