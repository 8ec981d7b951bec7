"""RMIA: how much more familiar a record is to a model than records that the model never saw.

    ratio(x) = p(x) / mean_k p_k(x)
    score(x) = share of z in Z with ratio(x) > gamma ratio(z)

p is the mean probability of a token (exp of the mean log-probability), p_k the same under reference
models, Z records that the judged model never saw. Higher = more likely a member; 0 to 1.
Source: RMIA, arXiv:2312.03262, equation 2. Half of the reference models were trained on x and half
were not, so their mean is the marginal probability of the paper's online form, and its factor `a`
of the offline form is not needed.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GAMMA = 1.0
"""How much more familiar than z a record must be; the paper finds little difference from 1 to 2."""


def ratios(judged: Array, references: Array) -> Array:
    """Return log ratio(x), shape (records,).

    Args:
        judged: Mean log-probability of a token under the judged model, (records,).
        references: The same under the reference models, (models, records).

    Raises:
        ValueError: Records differ, or there is no reference model.

    Example:
        >>> ratios(np.array([0.0, -1.0]), np.array([[-1.0, -1.0]])).tolist()
        [1.0, 0.0]
    """
    if references.ndim != 2 or not len(references) or references.shape[1:] != judged.shape:
        raise ValueError("the judged and the reference models must be scored on the same records")
    return np.asarray(judged - np.log(np.exp(references).mean(axis=0)), dtype=np.float64)


def scores(records: Array, population: Array) -> Array:
    """Return the share of unseen records that each record exceeds, shape (records,).

    Args:
        records: Log ratios of the records, (records,).
        population: Log ratios of records that the judged model never saw, (population,).

    Raises:
        ValueError: There is no unseen record.

    Example:
        >>> scores(np.array([1.0, 0.0]), np.array([0.5, -0.5])).tolist()
        [1.0, 0.5]
    """
    if not len(population):
        raise ValueError("RMIA compares with records that the model never saw, and there are none")
    above = records[:, None] > population[None, :] + np.log(GAMMA)  # [records, population]
    return np.asarray(above.mean(axis=1), dtype=np.float64)
