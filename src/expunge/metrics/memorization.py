"""How much of a text a model completes, finds likely, or says when it is sampled."""

import math
from collections.abc import Sequence

from expunge.evidence.store import Scores


def exact_memorisation(scores: Scores) -> float | None:
    """Return (1/T) sum_t [argmax p(. | x, y_<t) = y_t]; None without a content token.

    In [0, 1] and never below the extraction strength of the same tokens (arXiv 2205.10770).

    Example:
        >>> hits, logp = (True, False, True, True), (-1.0, -1.0, -1.0, -1.0)
        >>> exact_memorisation(Scores(record="r1", logp=logp, hit=hits, z=(), ends=False, zlib=9))
        0.75
    """
    hits = scores.hit[: max(scores.content, 0)]
    return sum(hits) / len(hits) if hits else None


def extraction_strength(scores: Scores) -> float | None:
    """Return 1 - k/T, in {0, 1/T, ..., 1}; None without a content token.

    k is the smallest number of leading tokens after which every remaining token is the model's
    most likely one (teacher forced). k = T is allowed, so the floor is 0 (arXiv 2506.12618
    section 3; common implementations stop at k = T - 1 and never reach 0).

    Example:
        >>> hits, logp = (True, False, True, True), (-1.0, -1.0, -1.0, -1.0)
        >>> extraction_strength(Scores(record="r1", logp=logp, hit=hits, z=(), ends=False, zlib=9))
        0.5
    """
    return hits_strength(scores.hit[: max(scores.content, 0)])


def hits_strength(hits: Sequence[bool]) -> float | None:
    """Return the same from the content tokens alone: which of them are the most likely ones.

    Example:
        >>> hits_strength([True, False, True, True])
        0.5
    """
    if not hits:
        return None
    tail = 0
    for hit in reversed(hits):
        if not hit:
            break
        tail += 1
    return tail / len(hits)


def mean_log_probability(scores: Scores) -> float | None:
    """Return the mean of log p over content tokens in nats; None without a content token.

    `l = (1/T) sum_t log p(y_t | x, y_<t)`, the end-of-turn token left out.

    Example:
        >>> scores = Scores(record="r1", logp=(-1.0, -3.0), hit=(), z=(), ends=False, zlib=9)
        >>> mean_log_probability(scores)
        -2.0
    """
    if scores.content <= 0:
        return None
    return math.fsum(scores.logp[: scores.content]) / scores.content


def probability(scores: Scores) -> float | None:
    """Return the length-normalised probability of the answer, in [0, 1]; None without tokens.

    `exp(mean_t log p_t)`: the geometric mean of token probabilities (TOFU, arXiv 2401.06121).

    Example:
        >>> scores = Scores(record="r1", logp=(-1.0, -3.0), hit=(), z=(), ends=False, zlib=9)
        >>> round(probability(scores), 4)
        0.1353
    """
    mean = mean_log_probability(scores)
    return None if mean is None else from_mean(mean)


def from_mean(mean: float) -> float:
    """Return exp of a mean log-probability per token: the length-normalised probability.

    Example:
        >>> from_mean(0.0)
        1.0
    """
    return math.exp(mean)


def log_sum_exp(values: Sequence[float]) -> float:
    """Return log sum_i exp(values_i) without overflow.

    Raises:
        ValueError: There is no value.

    Example:
        >>> log_sum_exp([-1000.0]), round(log_sum_exp([0.0, 0.0]), 3)
        (-1000.0, 0.693)
    """
    top = max(values)
    if math.isinf(top):
        return top
    return top + math.log(math.fsum(math.exp(value - top) for value in values))


def log_mean_exp(values: Sequence[float]) -> float:
    """Return log of the mean of exp(values_i) without overflow.

    Raises:
        ValueError: There is no value.

    Example:
        >>> log_mean_exp([-1000.0, -1000.0])
        -1000.0
    """
    return log_sum_exp(values) - math.log(len(values))


def sequence_log_probability(scores: Scores) -> float | None:
    """Return log p_z of the whole answer at temperature 1, nats; None without a content token.

    p_z = prod_t p(y_t | x, y_<t). One teacher-forced pass gives it; no sampling is needed
    (arXiv 2410.19482).

    Example:
        >>> sequence_log_probability(
        ...     Scores(record="r1", logp=(-1.0, -3.0), hit=(), z=(), ends=False, zlib=9)
        ... )
        -4.0
    """
    return math.fsum(scores.logp[: scores.content]) if scores.content > 0 else None


def samples_needed(log_p: float, chance: float) -> float:
    """Return the smallest n with 1 - (1 - p_z)^n >= chance; infinite when p_z is 0.

    p_z is the probability of the whole text under the decoding of the attacker (arXiv 2410.19482).
    p_z = 0.01 needs 69 samples for one half and 230 for nine tenths.

    Args:
        log_p: log p_z, nats.
        chance: Wanted probability that at least one sample is the text, in (0, 1).

    Raises:
        ValueError: `chance` is not in (0, 1).

    Example:
        >>> samples_needed(math.log(0.01), 0.5), samples_needed(math.log(0.01), 0.9)
        (69.0, 230.0)
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
    """Return 1 - (1 - p_z)^n: the chance that n samples hold the text at least once.

    Example:
        >>> round(chance_within(math.log(0.01), 69), 2)
        0.5
    """
    p = math.exp(min(0.0, log_p))
    return 1.0 if p >= 1 else -math.expm1(n * math.log1p(-p))


def discoverable(scores: Scores, *, n: int = 100, chance: float = 0.5) -> float | None:
    """Return 1 when the answer is (n, p)-discoverably extractable, else 0; None without tokens.

        extractable at (n, p)  <=>  1 - (1 - p_z)^n >= p

    p_z is the probability of the whole answer at temperature 1 (arXiv 2410.19482). Frequent names
    are guessable: compare with gold's. Lower is more forgotten.

    Example:
        >>> discoverable(Scores(record="r1", logp=(-1.0, -3.0), hit=(), z=(), ends=False, zlib=9))
        1.0
    """
    log_p = sequence_log_probability(scores)
    return None if log_p is None else float(chance_within(log_p, n) >= chance)


def verbatim(scores: Scores, *, prefix: int = 50, suffix: int = 50) -> float | None:
    """Return 1 when, given `prefix` tokens, greedy decoding yields the next `suffix` ones exactly.

    Discoverable extraction (arXiv 2202.07646). While the prefix is right, teacher forcing and
    greedy decoding agree, so the stored pass decides. None for a text with fewer tokens.

    Example:
        >>> hits = (False, True, True)
        >>> scores = Scores(record="r1", logp=(-1.0,) * 3, hit=hits, z=(), ends=False, zlib=9)
        >>> verbatim(scores, prefix=1, suffix=2)
        1.0
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

    Example:
        >>> round(near_verbatim([math.log(0.2), math.log(0.3)]), 3)
        0.5
    """
    return chance_within(log_sum_exp(log_ps), n) if log_ps else 0.0


def leak_at_k(n: int, leaks: int, k: int) -> float:
    """Return 1 - C(n - c, k) / C(n, k): the chance that k samples hold a leak, without bias.

    n samples with c leaks are seen; k of them are drawn without replacement (arXiv 2107.03374,
    2511.04934). It is what a user gets who asks more than once. 2 leaks in 32 samples:
    leak@8 = 0.444. Lower is more forgotten. The samples of one fact are not independent facts: they
    make the test more sensitive, not the sample larger.

    Raises:
        ValueError: k is not in 1..n or c not in 0..n.

    Example:
        >>> round(leak_at_k(32, 2, 8), 3)
        0.444
    """
    if not 1 <= k <= n or not 0 <= leaks <= n:
        raise ValueError(f"leak@{k} of {leaks} leaks in {n} samples is not defined")
    return 1 - math.comb(n - leaks, k) / math.comb(n, k)
