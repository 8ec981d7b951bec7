"""Gates: how a statistic becomes a decision, and decisions become the status of an axis.

Which metrics may decide follows from how well they tell models that know from those that do not.
`metric_validity.json` is written by `scripts/meta_evaluation.py` from a pool of models whose
knowledge is known. A metric whose faithfulness lies below the threshold, or that was never
evaluated, is shown and never gated.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from expunge.evals.results import Gate
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.residual_memory import RESOLVED, Residual
from expunge.metrics.statistics import Estimate, clopper_pearson, judge, records_needed
from expunge.utils.io import read_json

MEMORY = "residual memory"
KEPT = "kept records"
LIKELIHOOD = (MEMORY, KEPT)
"""Beginnings of the names of gates that look behind the answers, at likelihoods."""

WANTED = "wanted answers"
"""Beginning of the names of gates of an edit: is the new answer said?"""

NO_ANCHOR = "neither gold nor control items to compare with; give gold models or control records"


def behind_answers(gate: Gate) -> bool:
    """Tell whether a gate looks at likelihoods of the forget set."""
    return gate.name.startswith(LIKELIHOOD)


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


def residual_margin(found: Residual, policy: float, cap: float) -> float:
    """Return the margin of residual memory: policy, or what so few records can resolve, to a cap.

    What can be resolved is the smallest residual that is found in 95 % of cases at one-sided 95 %.
    Beyond the cap the margin grows no further, so noise leaves the gate unsettled instead.
    """
    return max(policy, min(cap, RESOLVED * found.error))


def judge_residual(found: Residual, *, policy: float, cap: float, level: float) -> Status:
    """Decide on residual memory.

    Fail: measurably more than a model that never saw the data shows, and more than the policy
    allows. The noise of such models never excuses it: only the policy counts here. Pass: the upper
    bound lies within the margin, see `residual_margin`.

    Args:
        found: The residual.
        policy: Largest residual that the request allows.
        cap: Widest margin that noise can make.
        level: Chance below which the value is more than a model that never saw the data shows.
    """
    if found.value > policy and found.p <= level:
        return Status.FAIL
    margin = residual_margin(found, policy, cap)
    return Status.PASS if found.high <= margin else Status.INCONCLUSIVE


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
        settle="a gold model, or control records that were asked the same",
    )


def axis_status(axis: Axis, gates: Sequence[Gate]) -> Status:
    """Combine the gates of one axis: the weakest link decides, a mean never does.

    Fail before scar before inconclusive before pass; an axis without any computed gate is not
    computable. A gate that is part of another one (`part`) counts only where it fails: a relation
    of a few records that cannot be settled by itself does not block.
    """
    own = [gate for gate in gates if gate.axis is axis]
    found = {gate.status for gate in own if not gate.part or gate.status is Status.FAIL}
    order = (Status.FAIL, Status.SCAR, Status.INCONCLUSIVE, Status.PASS)
    return next((status for status in order if status in found), Status.NOT_COMPUTABLE)


VALIDITY_FILE = Path(__file__).with_name("metric_validity.json")

THRESHOLD = 0.75
"""Least faithfulness (AUC over models) of a metric that may decide."""


@cache
def _validity() -> dict[str, Any]:
    return read_json(VALIDITY_FILE)["metrics"]


def unfit(metric: str) -> str:
    """Return why a metric may not decide; an empty string when it may."""
    row = _validity().get(metric)
    if row is None:
        return f"{metric} was never meta-evaluated, so it is shown and decides nothing"
    value = float(row["faithfulness"]["value"])
    if value >= THRESHOLD:
        return ""
    return (
        f"{metric} told models that know from models that do not with AUC {value:.2f} only; "
        f"{THRESHOLD:.2f} is needed to decide"
    )
