"""Kept records: single records that lie nearer the original than an unseen record can.

For each record the judged model's likelihood, on the scale of `membership.log_loss`, is compared
with the golds' in units of what such models differ by (`ModelNoise`). The p-value is that of a gold
in the judged model's place (offline likelihood ratio attack, arXiv:2112.03570, with the noise
pooled over records because golds are few). A record counts as kept when it also lies nearer the
original than the golds. Over many records the smallest p-value is small by chance, so the level is
divided by the number of records (Bonferroni).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from expunge.metrics.residual_memory import Array, ModelNoise

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
        judged: `membership.log_loss` of each record, shape (records,).
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
