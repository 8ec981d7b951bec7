"""Sampling: what a determined user gets who asks more than once."""

import math


def leak_at_k(n: int, leaks: int, k: int) -> float:
    """Return 1 - C(n - c, k) / C(n, k): the chance that k samples hold a leak, without bias.

    n samples with c leaks are seen; k of them are drawn without replacement (arXiv 2107.03374,
    2511.04934). 2 leaks in 32 samples: leak@8 = 0.444. Lower is more forgotten. The samples of one
    fact are not independent facts: they make the test more sensitive, not the sample larger.

    Raises:
        ValueError: k is not in 1..n or c not in 0..n.
    """
    if not 1 <= k <= n or not 0 <= leaks <= n:
        raise ValueError(f"leak@{k} of {leaks} leaks in {n} samples is not defined")
    return 1 - math.comb(n - leaks, k) / math.comb(n, k)


def dkw_band(n: int, alpha: float, *, two_sided: bool = False) -> float:
    """Return how far the distribution of a score may lie from that of n samples, in [0, 1].

    Dvoretzky, Kiefer, Wolfowitz and Massart: sqrt(ln(1/alpha) / 2n), with 2/alpha when two-sided.
    128 samples at alpha 0.01: 0.134 (arXiv 2410.03523).

    Raises:
        ValueError: n is not positive or alpha not in (0, 1).
    """
    if n < 1 or not 0 < alpha < 1:
        raise ValueError(f"a band of {n} samples at level {alpha} is not defined")
    return math.sqrt(math.log((2 if two_sided else 1) / alpha) / (2 * n))
