"""U-LiRA: per record, whether it was trained on and then unlearned, or never seen."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FEWEST = 2
"""Shadow models of each kind below which no spread can be estimated."""

FLOOR = 1e-3
"""Smallest standard deviation of phi: without it, equal shadow models make anything certain."""


class Normal(NamedTuple):
    """A normal distribution of phi.

    Example:
        >>> Normal(mean=0.0, sd=1.0).sd
        1.0
    """

    mean: float
    sd: float


def logit(probability: float) -> float:
    """Return log(p / (1 - p)) with p kept off 0 and 1 by 1e-12.

    Example:
        >>> logit(0.5)
        0.0
    """
    p = min(max(probability, 1e-12), 1 - 1e-12)
    return math.log(p) - math.log1p(-p)


def log_likelihood_ratio(phi: float, unlearned: Normal, unseen: Normal) -> float:
    """Return log Lambda, nats; above 0 the record looks trained on and unlearned.

    Example:
        >>> log_likelihood_ratio(1.0, Normal(mean=1.0, sd=1.0), Normal(mean=0.0, sd=1.0))
        0.5
    """
    return _log_density(phi, unlearned) - _log_density(phi, unseen)


def fit(values: Array) -> Normal:
    """Return mean and standard deviation (n - 1) of the shadow models' phi, shape (shadows,).

    Raises:
        ValueError: Fewer than two shadow models.

    Example:
        >>> fit(np.array([1.0, 3.0])).mean
        2.0
    """
    if len(values) < FEWEST:
        raise ValueError("a spread needs at least two shadow models")
    return Normal(float(values.mean()), max(float(values.std(ddof=1)), FLOOR))


def ratios(phi: Array, unlearned: Array, unseen: Array) -> Array:
    """Return log Lambda of each record of one judged model, shape (records,).

        phi = log(p / (1 - p))            Lambda = N(phi; Q_u) / N(phi; Q_g)

    Q_u is phi of the record over shadow models that were trained on it and then unlearned; Q_g is
    phi over shadow models that never saw it. Higher = more likely a member. It is the strongest
    test, and the only one that speaks about single records: population attacks overestimate
    protection, also of *retained* records (arXiv 2403.01218, 2112.03570).

    Gaussian fits need 16 shadow models of each kind, tails need 64. Adapters over a shared base are
    cheap to train; `scripts/u_lira.py` runs the attack over them.

    Args:
        phi: Judged model, (records,).
        unlearned: Shadow models trained on the record and unlearned, (shadows, records).
        unseen: Shadow models that never saw it, (shadows, records).

    Raises:
        ValueError: Fewer than two shadow models of a kind, or records differ.

    Example:
        >>> trained, never = np.array([[1.0], [3.0]]), np.array([[-1.0], [1.0]])
        >>> round(float(ratios(np.array([2.0]), trained, never)[0]), 6)
        1.0
    """
    if not len(phi) == unlearned.shape[1] == unseen.shape[1]:
        raise ValueError("judged and shadow models must be scored on the same records")
    return np.array(
        [
            log_likelihood_ratio(float(value), fit(unlearned[:, i]), fit(unseen[:, i]))
            for i, value in enumerate(phi)
        ]
    )


def leave_one_out(unlearned: Array, unseen: Array) -> tuple[Array, Array]:
    """Let each shadow model be judged by all others: what the attack can do at all.

    Returns:
        log Lambda of members, (unlearned shadows, records), and of others, (unseen shadows,
        records): the two sides for `tpr_at_fpr`.

    Raises:
        ValueError: Fewer than three shadow models of a kind.

    Example:
        >>> shadows = np.array([[0.0], [1.0], [2.0]])
        >>> [sides.shape for sides in leave_one_out(shadows + 5, shadows)]
        [(3, 1), (3, 1)]
    """
    if min(len(unlearned), len(unseen)) <= FEWEST:
        raise ValueError("leaving one out needs at least three shadow models of each kind")
    # The judged shadow model must not be among those that fit its own distribution.
    members = [
        ratios(unlearned[i], np.delete(unlearned, i, axis=0), unseen) for i in range(len(unlearned))
    ]
    others = [
        ratios(unseen[i], unlearned, np.delete(unseen, i, axis=0)) for i in range(len(unseen))
    ]
    return np.array(members), np.array(others)


def _log_density(value: float, normal: Normal) -> float:
    z = (value - normal.mean) / normal.sd
    return -0.5 * z * z - math.log(normal.sd) - 0.5 * math.log(2 * math.pi)
