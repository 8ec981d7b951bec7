"""Choosing: the Pareto front, and which of the settings tried for a method represents it.

A row whose auditor failed its own test is worth nothing: it is never chosen. Where removal is
requested, a method that leaves the weights unchanged can be chosen only where there is no other.
"""

from collections.abc import Sequence
from typing import NamedTuple

from expunge.benchmarking.axis_scores import ERASED, KEPT, upwards, weakest
from expunge.benchmarking.protocol import Protocol
from expunge.benchmarking.result import BenchResult
from expunge.evals.results import Ruling
from expunge.metrics.statistics import Estimate


class ParetoPoint(NamedTuple):
    """A model between what was erased and what was kept, both in [0, 1]; higher is better."""

    erased: Estimate
    """The weakest of forgetting, privacy and robustness."""
    kept: Estimate
    """The weaker of utility and locality."""


def point(row: BenchResult) -> ParetoPoint | None:
    """Return the point of a row; None when one of the two numbers is missing."""
    scores = row.axis_scores()
    erased, kept = weakest(scores, ERASED), weakest(scores, KEPT)
    return None if erased is None or kept is None else ParetoPoint(erased, kept)


def invalid(row: BenchResult) -> bool:
    """Tell whether the auditor of a row failed its own test: its numbers decide nothing."""
    return row.ruling == Ruling.INVALID


def dominates(first: ParetoPoint, second: ParetoPoint) -> bool:
    """Tell whether a point is at least as good on both counts and better on one, by value."""
    a = (first.erased.value, first.kept.value)
    b = (second.erased.value, second.kept.value)
    return a != b and a[0] >= b[0] and a[1] >= b[1]


def surely_dominates(first: ParetoPoint, second: ParetoPoint) -> bool:
    """Tell whether a point is better on both counts even by the far ends of the intervals."""
    return (first.erased.low > second.erased.high and first.kept.low >= second.kept.high) or (
        first.erased.low >= second.erased.high and first.kept.low > second.kept.high
    )


def front(points: Sequence[ParetoPoint]) -> list[bool]:
    """Tell of each point whether no other one dominates it by value."""
    return [not any(dominates(other, each) for other in points) for each in points]


def near_front(points: Sequence[ParetoPoint]) -> list[bool]:
    """Tell of each point whether no other one is surely better: the data do not part them."""
    return [not any(surely_dominates(other, each) for other in points) for each in points]


def front_of(rows: Sequence[BenchResult], *, protocol: Protocol) -> tuple[BenchResult, ...]:
    """Return the rows that no other one beats, the most erased first."""
    placed = [
        (row, at)
        for row in rows
        if row.status == "done" and not invalid(row) and not protocol.covers(row.cell)
        if (at := point(row)) is not None
    ]
    kept = front([at for _, at in placed])
    found = [pair for pair, yes in zip(placed, kept, strict=True) if yes]
    return tuple(row for row, _ in sorted(found, key=lambda pair: -pair[1].erased.value))


def best(rows: Sequence[BenchResult], *, protocol: Protocol) -> BenchResult | None:
    """Return the row that represents a method, among those that were finished and judged.

    Of the models that keep at least the floor, the one that erased most; where none does, the one
    that keeps most, and the table shows that it is below the floor. Of equally weak ones the next
    weakest axis decides (many have 0 on one of them), then what is kept, then who was first.
    What was erased may not be known: where the original does not recite the forget set.

    Args:
        rows: Finished rows of one method, or of several.
        protocol: The floor, and which methods leave the weights unchanged.
    """
    found: list[tuple[BenchResult, float, list[float]]] = []
    for row in rows:
        scores = row.axis_scores()
        kept = weakest(scores, KEPT)
        if row.status == "done" and not invalid(row) and kept is not None:
            found.append((row, kept.value, upwards(scores, ERASED)))
    if not found:
        return None
    found = [each for each in found if not protocol.covers(each[0].cell)] or found
    within = [each for each in found if each[1] >= protocol.floor]
    if within:
        return max(within, key=lambda each: (each[2], each[1]))[0]
    return max(found, key=lambda each: (each[1], each[2]))[0]
