"""The headline: what is settled, question by question, in words for a person without statistics."""

from collections.abc import Sequence

from expunge.evals.gates import axis_status
from expunge.evals.results import Finding, Gate
from expunge.metrics.outcomes import Axis, Status

QUESTIONS = {
    Axis.FORGETTING: "Forgotten",
    Axis.PRIVACY: "Private",
    Axis.ROBUSTNESS: "Holds against attempts to bring it back",
    Axis.UTILITY: "Everything else kept",
    Axis.LOCALITY: "Neighbours kept",
}
"""Axis to its question, in the order of the headline."""

ANSWERS = {
    Status.PASS: "yes",
    Status.FAIL: "no",
    Status.SCAR: "yes, but the model avoids the data more than one that never saw it",
    Status.INCONCLUSIVE: "not settled",
    Status.NOT_COMPUTABLE: "not tested",
}
"""Status of an axis to the answer."""


def findings(gates: Sequence[Gate]) -> tuple[Finding, ...]:
    """Return one finding per axis that has gates.

    Args:
        gates: The gates that decide, see `expunge.evals.verdict`.
    """
    found: list[Finding] = []
    for axis, question in QUESTIONS.items():
        own = [gate for gate in gates if gate.axis is axis]
        if own:
            found.append(_finding(axis, question, own))
    return tuple(found)


def _finding(axis: Axis, question: str, own: Sequence[Gate]) -> Finding:
    status = axis_status(axis, own)
    decisive = [g for g in own if g.status is status and (not g.part or status is Status.FAIL)]
    gate = max(decisive or own, key=_pressing)
    return Finding(
        axis=axis,
        question=question,
        answer=ANSWERS[status],
        detail=_detail(gate),
        settle=_settle(decisive) if status is Status.INCONCLUSIVE else "",
    )


def _pressing(gate: Gate) -> float:
    """Return how much of its margin a gate uses: the most pressing one speaks for its axis."""
    if gate.value is None or not gate.margin:
        return -1.0
    return abs(gate.value) / gate.margin


def _detail(gate: Gate) -> str:
    if gate.value is None or gate.low is None or gate.high is None:
        return f"{gate.name}: {gate.reason}"
    limit = (
        f"between {-gate.margin:.0%} and {gate.margin:.0%}"
        if gate.two_sided
        else (f"at most {gate.margin:.0%}")
    )
    return (
        f"{gate.name}: {gate.value:.1%} ({gate.low:.1%} to {gate.high:.1%}), allowed {limit}, "
        f"{gate.n} records"
    )


def _settle(open_: Sequence[Gate]) -> str:
    """Say what would settle the open gates, or that nothing of this request can."""
    needed = max((gate.needed or 0 for gate in open_), default=0)
    ways = [f"about {needed} more records, if there are any"] if needed else []
    ways += list(dict.fromkeys(gate.settle for gate in open_ if gate.settle))
    return " or ".join(ways) if ways else "nothing that this request can give"
