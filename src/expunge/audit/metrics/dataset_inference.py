"""Dataset inference: was this *set* trained on, by all membership scores together?

Half of the records teaches a linear regression which scores tell suspects from a set that was
certainly not seen; on the other half a one-sided t-test asks whether suspects score higher
(arXiv 2406.06443). Single records stay anonymous: the claim is about the set. Needs at least eight
records a side, half of them kept for the test; without members its p-value is uniform.
"""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FEWEST = 8
"""Records of each side below which half of them tell nothing."""

RIDGE = 1.0
"""Penalty of the regression on standardised scores: membership scores are nearly collinear."""


def dataset_inference(suspects: Array, unseen: Array, *, seed: int) -> float | None:
    """Return the p-value of "the suspects are no more familiar than the unseen"; small = members.

    Args:
        suspects: Membership scores, (records, scores); higher = more likely a member.
        unseen: The same of records that the model cannot have seen.
        seed: Seed of the split into halves.

    Returns:
        None with fewer than eight records on a side.

    Raises:
        ValueError: The sides have different numbers of scores.
    """
    if suspects.shape[1] != unseen.shape[1]:
        raise ValueError("both sides must have the same scores")
    if min(len(suspects), len(unseen)) < FEWEST:
        return None
    rng = np.random.default_rng(seed)
    (learn_s, test_s), (learn_u, test_u) = _halves(suspects, rng), _halves(unseen, rng)
    weights = _regression(learn_s, learn_u)
    from scipy.stats import ttest_ind

    first, second = test_s @ weights, test_u @ weights
    found = cast("Any", ttest_ind(first, second, equal_var=False, alternative="greater"))
    # Scores without any spread carry no evidence either way.
    return 1.0 if np.isnan(found.pvalue) else float(found.pvalue)


def _halves(rows: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    order = rng.permutation(len(rows))
    middle = len(rows) // 2
    return rows[order[:middle]], rows[order[middle:]]


def _regression(members: Array, others: Array) -> Array:
    """Return weights on raw scores, (scores,); outliers beyond 2.5 SD are clipped for the fit."""
    rows = np.concatenate([members, others])
    mean, sd = rows.mean(axis=0), rows.std(axis=0)
    sd = np.where(sd > 0, sd, 1.0)
    standard = np.clip((rows - mean) / sd, -2.5, 2.5)
    target = np.concatenate([np.full(len(members), 0.5), np.full(len(others), -0.5)])
    target = target - target.mean()
    gram = standard.T @ standard + RIDGE * np.eye(rows.shape[1])
    return np.linalg.solve(gram, standard.T @ target) / sd
