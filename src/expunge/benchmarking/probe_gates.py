"""Forgetting by a suite's own numbers, where no model knows the forget set by heart.

    left = (value - floor) / (value of the original - floor)      0 nothing, 1 as much as before

A model need not recite an encyclopaedia to know what is in it. Its audit then finds nothing to
forget, and what was known is in the answers to the suite's probes alone. Both values are taken at
the far ends of their intervals, so that of the share is rather too wide: both models answered the
same questions.
"""

from collections.abc import Sequence
from dataclasses import replace

from expunge.benchmarking.protocol import Protocol
from expunge.benchmarking.result import BenchResult
from expunge.benchmarking.suites import SUITES
from expunge.benchmarking.suites.base import KnownSet
from expunge.evals.gates import interval_gate, missing
from expunge.evals.results import Gate, Score
from expunge.metrics.outcomes import Axis
from expunge.metrics.statistics import Estimate


def probe_gates(rows: Sequence[BenchResult], protocol: Protocol) -> list[BenchResult]:
    """Return rows with gates on how much of the original's knowledge is left, for such suites.

    Args:
        rows: Rows of a matrix; without that of the original they come back as they are.
        protocol: Which suite it is.
    """
    entry = None if protocol.suite is None else SUITES.get(protocol.suite.name)
    known = () if entry is None else entry.known
    original = next((row for row in rows if row.cell.kind == "original"), None)
    if not known or original is None:
        return list(rows)
    margin = protocol.shared.request.margins.residual
    return [
        replace(row, gates=(*_others(row), *(_left(row, original, each, margin) for each in known)))
        if row.status == "done"
        else row
        for row in rows
    ]


def _others(row: BenchResult) -> list[Gate]:
    """Return the gates of the audit, without those that the probes replace."""
    return [gate for gate in row.gates if gate.axis not in (Axis.FORGETTING, Axis.ROBUSTNESS)]


def _left(row: BenchResult, original: BenchResult, known: KnownSet, margin: float) -> Gate:
    name = f"{known.metric} {known.probe}"
    score = row.number(known.metric, known.probe)
    now, before = _estimate(score), _estimate(original.number(known.metric, known.probe))
    floor = known.floor
    if score is None or now is None or before is None or before.low <= floor:
        reason = f"the original is not surely above {floor:g} on {name}"
        return missing(known.axis, name, margin=margin, reason=reason)
    share = Estimate(
        (now.value - floor) / (before.value - floor),
        (now.low - floor) / (before.high - floor),
        (now.high - floor) / (before.low - floor),
    )
    return interval_gate(known.axis, name, share, margin=margin, n=score.n)


def _estimate(score: Score | None) -> Estimate | None:
    if score is None or score.value is None or score.low is None or score.high is None:
        return None
    return Estimate(score.value, score.low, score.high)
