"""Axis scores: one number in [0, 1] for each axis, computed from the gates of an audit.

    forgetting, robustness   1 - largest residual or excess recovery      1 gold, 0 original
    privacy                  1 - 2 max |AUC - AUC of gold|                1 gold, 0 farthest
    utility, locality        1 - max(loss / margin) / 4                   0.75 exactly at the margin

Gates read validated metrics only, so nothing else decides here. Models rank by their weakest axis,
then by the next weakest; never by a mean. Intervals are those of the gates: one-sided
95 % bounds on each side.
"""

from collections.abc import Mapping, Sequence

from expunge.evals.results import Gate
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import Estimate

AxisScores = Mapping[Axis, Estimate]
"""Scores by axis, of the axes that could be computed."""

ERASED = (Axis.FORGETTING, Axis.PRIVACY, Axis.ROBUSTNESS)
KEPT = (Axis.UTILITY, Axis.LOCALITY)
AT_MARGIN = 0.75
"""Where a loss is exactly what the margin allows."""


def axis_scores(gates: Sequence[Gate]) -> dict[Axis, Estimate]:
    """Return the score of a model on every axis that has a computed gate."""
    found: dict[Axis, Estimate] = {}
    for axis in Axis:
        own = [gate for gate in gates if gate.axis is axis]
        if axis is Axis.LOCALITY:
            # A relation of few records cannot be settled by itself: the first gate holds all.
            own = own[:1] + [gate for gate in own[1:] if gate.status is Status.FAIL]
        parts = [part for gate in own if (part := _part(gate)) is not None]
        if parts:
            found[axis] = Estimate(
                min(part.value for part in parts),
                min(part.low for part in parts),
                min(part.high for part in parts),
            )
    return found


def weakest(axis_scores: AxisScores, axes: Sequence[Axis] = tuple(Axis)) -> Estimate | None:
    """Return the lowest of some axes, by value; None when none of them was computed."""
    found = [axis_scores[axis] for axis in axes if axis in axis_scores]
    if not found:
        return None
    return Estimate(
        min(each.value for each in found),
        min(each.low for each in found),
        min(each.high for each in found),
    )


def upwards(axis_scores: AxisScores, axes: Sequence[Axis] = tuple(Axis)) -> list[float]:
    """Return the values of some axes, the weakest first: greater is better, as lists compare."""
    return sorted(axis_scores[axis].value for axis in axes if axis in axis_scores)


def _part(gate: Gate) -> Estimate | None:
    if gate.value is None or gate.low is None or gate.high is None:
        return None
    if gate.axis is Axis.PRIVACY:
        near = 0.0 if gate.low <= 0 <= gate.high else min(abs(gate.low), abs(gate.high))
        far = max(abs(gate.low), abs(gate.high))
        return _falling(1.0, abs(gate.value), near, far)
    if gate.axis in KEPT:
        return _falling(0.25 / gate.margin, gate.value, gate.low, gate.high)
    return _falling(1.0, gate.value, gate.low, gate.high)


def _falling(slope: float, value: float, low: float, high: float) -> Estimate:
    """Return 1 - slope x, clipped to [0, 1]; the interval turns around."""

    def of(x: float) -> float:
        return min(1.0, max(0.0, 1 - slope * x))

    return Estimate(of(value), of(high), of(low))
