"""What a model knows of planted canaries, with exact nulls.

Scores are log-probabilities of the secrets, nats. Before training, nothing tells the planted canary
of a pair from its control, so under the null hypothesis

- each guess "the likelier one of the pair is planted" is right with probability 1/2, independently;
- the rank of a planted canary among all controls is uniform, so that its mean exposure is 1.44
  bits. All share the controls, so their mean scatters more than that of independent ranks.

The lower bound on epsilon is that of one training run (Steinke et al., arXiv:2305.08846): the
largest epsilon for which so many right guesses have a chance of at most 5 %,
P[Bin(r, e^eps / (1 + e^eps)) >= v] <= 0.05. Its neighbours differ in which canary of a pair they
hold. Few guesses can refute gross leaks only: 16 of 16 bound epsilon by 1.58.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from expunge.metrics.exposure import UNSEEN, exposure_by_rank
from expunge.metrics.statistics import clopper_pearson

CONFIDENCE = 0.95
FALSE_POSITIVES = 0.01
"""Rate of false positives at which the true ones are counted."""
FEWEST = 100
"""Controls without which no rate at 1 % of false positives is given."""
WEAK = 16
"""Guesses up to which even a perfect score is weak evidence."""
_STEPS = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class CanaryScores:
    """Scores of one pair: the planted canary, its control, and the tier.

    Example:
        >>> CanaryScores(tier=4, planted=-1.0, control=-20.0).right
        1.0
    """

    tier: int
    planted: float
    control: float

    @property
    def right(self) -> float:
        """1 where the planted one is likelier, a half in a tie."""
        return 1.0 if self.planted > self.control else 0.5 if self.planted == self.control else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CanaryFindings:
    """What was found of one tier, or of all.

    Example:
        >>> pairs = [CanaryScores(tier=1, planted=-1.0, control=-9.0)] * 16
        >>> found = judge_canaries(pairs)
        >>> found.right, found.known, found.weak
        (16.0, True, True)
    """

    tier: int | None
    """None: all tiers together."""
    pairs: int
    right: float
    """Pairs whose planted canary is the likelier one; ties count half."""
    p: float
    """Exact chance of so many right guesses in a model that never saw the canaries."""
    exposure: float
    """Mean exposure of the planted canaries among the controls, bits; of unseen ones 1.44."""
    rate: float | None
    """Planted canaries above all but 1 % of the controls; None: fewer than 100 controls."""
    rate_low: float | None
    rate_high: float | None
    """Exact one-sided 95 % bounds of it, at this threshold."""
    false_high: float
    """Bound of the false positives at this threshold, which the controls set: a model that never
    saw the canaries may find so many."""
    epsilon: float
    """Lower bound of epsilon, 95 % confidence."""

    @property
    def known(self) -> bool:
        """Whether the model knows them, at a level of 5 %."""
        return self.p <= 1 - CONFIDENCE

    @property
    def weak(self) -> bool:
        """Whether so few guesses could only refute gross leaks."""
        return self.pairs <= WEAK

    def text(self) -> str:
        """Return it as one line."""
        name = "all tiers" if self.tier is None else f"repeated {self.tier} times"
        rate = (
            f"fewer than {FEWEST} controls: no rate at 1 %"
            if self.rate is None
            else f"{self.rate:.0%} found at 1 % false positives ({self.rate_low:.0%} to"
            f" {self.rate_high:.0%}; by chance up to {self.false_high:.0%})"
        )
        weak = "; weak evidence: few pairs" if self.weak else ""
        return (
            f"{name}: {self.right:g} of {self.pairs} guesses right (p {self.p:.2g}), exposure"
            f" {self.exposure:.1f} bits (unseen: {UNSEEN:.1f}), {rate},"
            f" epsilon at least {self.epsilon:.2f}{weak}"
        )


def judge_canaries(pairs: Sequence[CanaryScores], *, tier: int | None = None) -> CanaryFindings:
    """Judge what a model knows of planted canaries.

    Args:
        pairs: Scores of all pairs.
        tier: Judge the planted canaries of this tier alone, against the controls of all.

    Raises:
        ValueError: There is no pair of this tier.
    """
    chosen = [each for each in pairs if tier is None or each.tier == tier]
    if not chosen:
        raise ValueError(f"there is no pair of canaries of tier {tier}")
    controls = sorted((each.control for each in pairs), reverse=True)
    right = sum(each.right for each in chosen)
    found: tuple[float | None, float | None, float | None] = (None, None, None)
    false = math.floor(FALSE_POSITIVES * len(controls))
    if len(controls) >= FEWEST:
        threshold = controls[false]
        above = sum(each.planted > threshold for each in chosen)
        found = (above / len(chosen), *clopper_pearson(above, len(chosen)))
    exposures = [exposure_by_rank(each.planted, controls) for each in chosen]
    return CanaryFindings(
        tier=tier,
        pairs=len(chosen),
        right=right,
        p=_at_least(math.floor(right), len(chosen), 0.5),
        exposure=sum(exposures) / len(exposures),
        rate=found[0],
        rate_low=found[1],
        rate_high=found[2],
        false_high=clopper_pearson(false, len(controls))[1],
        epsilon=epsilon_bound(math.floor(right), len(chosen)),
    )


def epsilon_bound(right: int, guesses: int) -> float:
    """Return the lower bound of epsilon at 95 % confidence; 0 where chance explains the guesses.

    Args:
        right: Right guesses.
        guesses: All of them.

    Raises:
        ValueError: The counts are no counts of guesses.

    Example:
        >>> [round(epsilon_bound(v, r), 2) for v, r in ((16, 16), (14, 16), (90, 100))]
        [1.58, 0.65, 1.63]
    """
    if guesses < 1 or not 0 <= right <= guesses:
        raise ValueError(f"{right} right of {guesses} guesses is not a count")
    low, high = 0.0, 50.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        chance = 1 / (1 + math.exp(-middle))
        low, high = (middle, high) if _at_least(right, guesses, chance) <= 0.05 else (low, middle)
    return low


def _at_least(count: int, n: int, chance: float) -> float:
    """Return P(X >= count) for X binomial(n, chance)."""
    if count <= 0:
        return 1.0
    from scipy.special import bdtrc

    return float(bdtrc(count - 1, n, chance))
