"""Churn: records whose answer turned right or wrong, which an unchanged mean hides."""

from collections.abc import Sequence
from typing import NamedTuple


class Churn(NamedTuple):
    """Shares of records, in [0, 1]."""

    lost: float
    """Right before, wrong after."""
    gained: float
    """Wrong before, right after."""

    @property
    def total(self) -> float:
        """Share of records that flipped either way."""
        return self.lost + self.gained


def churn(before: Sequence[float], after: Sequence[float]) -> Churn | None:
    """Return how many paired records flipped; a value from 0.5 on counts as right.

    None without a record.

    Raises:
        ValueError: The sides differ in length.
    """
    pairs = [(a >= 0.5, b >= 0.5) for a, b in zip(before, after, strict=True)]
    if not pairs:
        return None
    return Churn(
        sum(a and not b for a, b in pairs) / len(pairs),
        sum(b and not a for a, b in pairs) / len(pairs),
    )
