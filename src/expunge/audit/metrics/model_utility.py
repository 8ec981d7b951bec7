"""Model utility: TOFU's one number for all that should be kept (arXiv 2401.06121).

    MU = harmonic mean of {retain, real authors, world facts} x {probability, ROUGE-L recall,
         max(0, 1 - truth ratio)}

One zero makes it zero, and it does not see gibberish: shown for comparison, never gated.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Utility(NamedTuple):
    """Three means over one set of records, each in [0, 1]; higher is better."""

    probability: float
    """Normalised probability; with options on real authors and world facts."""
    rouge: float
    """ROUGE-L recall with stemming."""
    truth: float
    """Mean of max(0, 1 - truth ratio)."""


def harmonic_mean(values: Sequence[float]) -> float:
    """Return n / sum(1/v), or 0 when one value is 0.

    Raises:
        ValueError: There is no value, or one is negative.
    """
    if not values or min(values) < 0:
        raise ValueError("a harmonic mean needs values that are not negative")
    return 0.0 if min(values) == 0 else len(values) / sum(1 / value for value in values)


def model_utility(*sets: Utility) -> float:
    """Return the harmonic mean over all numbers of all sets, in [0, 1]; TOFU gives three sets.

    Raises:
        ValueError: No set is given.
    """
    return harmonic_mean([value for each in sets for value in each])
