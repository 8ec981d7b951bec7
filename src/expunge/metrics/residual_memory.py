"""Residual memory: the share of what the original learnt that is left, 0 = gold, 1 = original.

`R = sum(lp_u - lp_g) / sum(lp_o - lp_g)` over records, where `lp` is the mean log-probability per
token of the true answer (`untold_likelihood`: without the name that the question tells, -11 nats at
least) under the judged model u, the gold g and the original o. The records are
paired, so their difficulty cancels; what is left is how models that never saw a record differ on
it. That noise is measured, not assumed: between golds on the forget set, and between all models
(golds and original) on records that none of them was trained on.

Kept records are single ones that lie nearer the original than an unseen record can. For each record
the judged model's likelihood, on the scale of `untold_log_loss`, is compared with the golds' in
units of what such models differ by (`ModelNoise`). The p-value is that of a gold in the judged
model's place (offline likelihood ratio attack, arXiv:2112.03570, with the noise pooled over records
because golds are few). A record counts as kept when it also lies nearer the original than the
golds. Over many records the smallest p-value is small by chance, so the level is divided by the
number of records (Bonferroni).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Z = 1.6448536269514722
"""Normal quantile of one-sided 95 % confidence."""

RESOLVED = 2 * Z
"""Standard errors of the smallest effect that is found in 95 % of cases at one-sided 95 %."""


class ModelNoise(NamedTuple):
    """How models differ on records that they never saw, nats per token.

    Example:
        >>> noise = ModelNoise(record=0.2, model=0.0, degrees=30)
        >>> round(noise.of_mean(records=4, golds=1), 4)
        0.1414
    """

    record: float
    """Standard deviation of one model on one record, model-wide shifts apart."""
    model: float
    """Standard deviation of a model-wide shift."""
    degrees: int
    """Degrees of freedom of `record`."""

    def plus(self, other: "ModelNoise") -> "ModelNoise":
        """Return this noise and another, independent one, together."""
        return ModelNoise(
            float(np.hypot(self.record, other.record)),
            float(np.hypot(self.model, other.model)),
            min(self.degrees, other.degrees),
        )

    def of_mean(self, records: int, golds: int) -> float:
        """Return the SD of the mean difference over `records` against the mean of `golds`."""
        return float(np.sqrt((self.record**2 / records + self.model**2) * (1 + 1 / golds)))


class Residual(NamedTuple):
    """Residual memory with one-sided 95 % bounds.

    Example:
        >>> Residual(value=0.0, low=-0.1, high=0.1, error=0.06, gap=2.0, degrees=30).p
        0.5
    """

    value: float
    low: float
    high: float
    error: float
    """Standard error of the value for a model that never saw the records."""
    gap: float
    """Mean of lp_o - lp_g, nats per token: what 1 stands for."""
    degrees: int
    """Degrees of freedom of the error."""

    @property
    def p(self) -> float:
        """Chance of this value or a higher one in a model that never saw the records."""
        from scipy.special import stdtr

        return float(stdtr(self.degrees, -self.value / max(self.error, 1e-12)))


def model_noise(*groups: Array) -> ModelNoise | None:
    """Return how models differ on unseen records; None with fewer than two models of two records.

    Each group holds the same records under several models that never saw them: the golds on the
    forget set, golds and original on the holdout set. Pooled over groups, weighted by degrees of
    freedom. With one gold the holdout records alone measure the noise.

    Args:
        groups: Mean log-probabilities per token, each of shape (models, records).

    Example:
        >>> model_noise(np.array([[1.0, 2.0], [1.0, 2.0]]))
        ModelNoise(record=0.0, model=0.0, degrees=1)
    """
    squares, degrees = 0.0, 0
    for group in groups:
        if group.ndim == 2 and min(group.shape) >= 2:
            centred = group - group.mean(axis=0)  # [models, records], without record difficulty
            centred = centred - centred.mean(axis=1, keepdims=True)  # and without model-wide shifts
            squares += float((centred**2).sum())
            degrees += (group.shape[0] - 1) * (group.shape[1] - 1)
    if not degrees:
        return None
    record = float(np.sqrt(squares / degrees))
    # The variance of model means holds that of the records' noise, which is taken off.
    shifts = [
        (float(np.var(group.mean(axis=1), ddof=1)) - record**2 / group.shape[1], len(group) - 1)
        for group in groups
        if group.ndim == 2 and min(group.shape) >= 2
    ]
    total = sum(weight for _, weight in shifts)
    shift = sum(variance * weight for variance, weight in shifts) / total
    return ModelNoise(record, float(np.sqrt(max(0.0, shift))), degrees)


def change_noise(plain: Array, changed: Array) -> ModelNoise:
    """Return how far a change of weights, such as rounding, moves models that never saw the data.

    Every model is moved by chance in its own way, so this noise comes on top of that between
    models.

    Args:
        plain: Mean log-probabilities of the golds, shape (golds, records).
        changed: The same after the change.

    Example:
        >>> change_noise(np.zeros((2, 3)), np.zeros((2, 3))).record
        0.0
    """
    moved = changed - plain  # [golds, records]
    shifts = moved.mean(axis=1)  # [golds]
    scatter = moved - shifts[:, None]
    degrees = max(1, scatter.size - len(scatter))
    record = float(np.sqrt((scatter**2).sum() / degrees))
    return ModelNoise(record, float(np.sqrt(np.mean(shifts**2))), degrees)


def residual_memory(
    judged: Array, original: Array, golds: Array, noise: ModelNoise
) -> Residual | None:
    """Return the residual memory of some records; None when the original holds no more than gold.

    The standard error is that of a model which never saw the records, from `noise`. The records'
    own scatter around the ratio, which is larger when a few records were kept whole, widens the
    bounds: the two are pooled by degrees of freedom, because few records estimate scatter badly.

    Args:
        judged: Mean log-probability per token of each record, shape (records,).
        original: The same of the original, shape (records,).
        golds: The same of each gold, shape (golds, records).
        noise: How models differ on unseen records.

    Raises:
        ValueError: Shapes do not match, or there is no record or no gold.

    Example:
        >>> noise = ModelNoise(record=0.1, model=0.05, degrees=30)
        >>> golds = np.full((2, 3), -3.0)
        >>> residual_memory(np.full(3, -2.0), np.full(3, -1.0), golds, noise).value
        0.5
    """
    if golds.ndim != 2 or not golds.size or not judged.shape == original.shape == golds.shape[1:]:
        raise ValueError("residual memory needs the same records under all models")
    gold = golds.mean(axis=0)
    excess, gaps = judged - gold, original - gold
    gap = float(gaps.mean())
    if gap <= 0:
        return None
    value = float(excess.mean()) / gap
    count = len(judged)
    error = noise.of_mean(count, len(golds)) / gap
    own = float(((excess - value * gaps) ** 2).sum())
    unit = noise.record**2 * (1 + 1 / len(golds))
    pooled = (own + noise.degrees * unit) / (count - 1 + noise.degrees)
    shift = noise.model**2 * (1 + 1 / len(golds))
    width = Z * max(error, float(np.sqrt(pooled / count + shift)) / gap)
    return Residual(value, value - width, value + width, error, gap, noise.degrees)


Flags = NDArray[np.bool_]

LEVEL = 0.01
"""Chance that any record of a true gold is called kept."""

LEVEL_ATTACK = 0.0025
"""The same under one attack, of which there are many."""


TAILS = 30
"""Most degrees of freedom of the test: between real golds the differences have heavier tails than
a normal distribution (excess kurtosis 1 to 3), which Student's with 30 covers."""


class KeptTest(NamedTuple):
    """The test of each record, in the order given.

    Example:
        >>> both = np.array([True, True])
        >>> found = KeptTest(p=np.array([0.001, 0.4]), nearer=both, tellable=both)
        >>> found.kept(2).tolist()
        [True, False]
    """

    p: Array
    """Chance of this value or a higher one under a model that never saw the record."""
    nearer: Flags
    """Whether the record lies nearer the original than the golds."""
    tellable: Flags
    """Whether a record kept whole would be found: the original itself would be flagged."""

    def kept(self, tests: int, *, level: float = LEVEL) -> Flags:
        """Return which records are kept, with `level` shared by `tests` comparisons."""
        return np.asarray(self.nearer & (self.p <= level / max(1, tests)), dtype=bool)


def kept_test(judged: Array, original: Array, golds: Array, noise: ModelNoise) -> KeptTest:
    """Test each record for being kept.

    Args:
        judged: `untold_log_loss` of each record, shape (records,).
        original: The same of the original, shape (records,).
        golds: The same of each gold, shape (golds, records).
        noise: How models differ on unseen records.

    Example:
        >>> noise = ModelNoise(record=0.1, model=0.1, degrees=30)
        >>> found = kept_test(np.array([3.0, 0.0]), np.array([3.0, 3.0]), np.zeros((2, 2)), noise)
        >>> found.kept(2).tolist()
        [True, False]
    """
    from scipy.stats import t

    gold = golds.mean(axis=0)  # [records]
    # A model-wide shift moves every record alike: it belongs to the noise of one record, too.
    # The difference of one model and the mean of G golds has 1 + 1/G times the variance of one.
    unit = np.hypot(noise.record, noise.model) * np.sqrt(1 + 1 / len(golds))
    unit = max(float(unit), 1e-9)
    degrees = min(TAILS, noise.degrees)
    p = t.sf((judged - gold) / unit, degrees)
    level = LEVEL / max(1, len(judged))
    tellable = t.sf((original - gold) / unit, degrees) <= level
    return KeptTest(
        np.asarray(p, dtype=np.float64),
        # In nats of loss: the scale itself is stretched where the loss is small.
        np.asarray(np.exp(-judged) < (np.exp(-original) + np.exp(-gold)) / 2, dtype=bool),
        np.asarray(tellable, dtype=bool),
    )
