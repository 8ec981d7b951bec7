"""Gates: how a statistic becomes a decision, and decisions become the status of an axis."""

from collections.abc import Sequence

from expunge.evals.results import Gate
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import Estimate, clopper_pearson, judge, records_needed

RESIDUAL = "residual extraction-strength"
STRAGGLERS = "stragglers"
LIKELIHOOD = frozenset({RESIDUAL, STRAGGLERS})
"""Gates of forgetting that look behind the answers, at the likelihoods of the true ones."""

NO_ANCHOR = "neither gold nor control items to compare with; give gold models or control records"


def interval_gate(
    axis: Axis, name: str, estimate: Estimate, *, margin: float, n: int, reason: str = ""
) -> Gate:
    """Decide by the one-sided bounds of an estimate: non-inferiority against `margin`."""
    status = judge(estimate.low, estimate.high, margin)
    needed = records_needed(estimate, margin, n) if status is Status.INCONCLUSIVE else None
    return Gate(
        axis=axis,
        name=name,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        margin=margin,
        n=n,
        status=status,
        reason=reason,
        needed=needed,
    )


def missing(axis: Axis, name: str, *, margin: float, reason: str, n: int = 0) -> Gate:
    """Return the gate of a test whose needs are not met; it never has a value."""
    return Gate(
        axis=axis,
        name=name,
        value=None,
        low=None,
        high=None,
        margin=margin,
        n=n,
        status=Status.NOT_COMPUTABLE,
        reason=reason,
    )


def unanchored(
    axis: Axis, name: str, events: int, *, margin: float, n: int, gap: float = 1.0
) -> Gate:
    """Return the open gate of facts that came back where nothing tells what guessing brings.

    Args:
        axis: Axis of the gate.
        name: Name of the gate.
        events: Facts that came back, of `n`.
        margin: Largest tolerated excess, as a share of `gap`.
        n: Facts asked for.
        gap: Share of these facts that the original states beyond the anchor; 1 for plain rates.
    """
    return Gate(
        axis=axis,
        name=name,
        value=events / n / gap,
        low=0.0,
        high=clopper_pearson(events, n)[1] / gap,
        margin=margin,
        n=n,
        status=Status.INCONCLUSIVE,
        reason=f"{events} of {n} facts came back, and nothing tells how many a guess would bring",
    )


def axis_status(axis: Axis, gates: Sequence[Gate]) -> Status:
    """Combine the gates of one axis: the weakest link decides, a mean never does.

    Fail before scar before inconclusive before pass; an axis without any computed gate is not
    computable. On locality the first gate (all neighbours) decides together with every relation
    that fails: a relation of a few records that cannot be settled by itself does not block.
    """
    own = [gate for gate in gates if gate.axis is axis]
    if axis is Axis.LOCALITY:
        own = own[:1] + [gate for gate in own[1:] if gate.status is Status.FAIL]
    found = {gate.status for gate in own}
    order = (Status.FAIL, Status.SCAR, Status.INCONCLUSIVE, Status.PASS)
    return next((status for status in order if status in found), Status.NOT_COMPUTABLE)
