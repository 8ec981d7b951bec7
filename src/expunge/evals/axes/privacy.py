"""Privacy: do the forgotten records still stand out, in either direction?"""

from typing import NamedTuple

import numpy as np

from expunge.evals.comparison import CONTROL_STREAM, Comparison
from expunge.evals.damage import widened
from expunge.evals.evidence_table import common
from expunge.evals.gates import missing
from expunge.evals.leak_test import SMALL
from expunge.evals.membership import words
from expunge.evals.metric_validity import unfit
from expunge.evals.results import Gate
from expunge.evidence.store import ORIGINAL
from expunge.metrics.base import MEMBERSHIP, ScoreMetric
from expunge.metrics.membership_tests import comparable
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import (
    ONE_SIDED,
    TWO_SIDED,
    Estimate,
    Sample,
    auc,
    auc_draws,
    auc_interval,
    interval,
    judge_equivalence,
    records_needed,
)

MANY = 400
"""Records from which half the margin can be resolved."""


class Groups(NamedTuple):
    """The forget set and a set that no model was trained on, scored by the same models."""

    members: dict[str, Sample]
    """Role to the membership scores of the forget records."""
    others: dict[str, Sample]
    """Role to the membership scores of the holdout (or control) records."""
    split: str


def membership_split(case: Comparison, roles: tuple[str, ...]) -> str | None:
    """Return the set that plays the non-members: holdout, else control; None without either."""
    for split in ("holdout", "control"):
        if all(case.table.rows(MEMBERSHIP[0], role, split) for role in roles):
            return split
    return None


def groups(case: Comparison, metric: ScoreMetric, roles: tuple[str, ...]) -> Groups | None:
    """Return the paired scores of several models on forget and on non-members; None if lacking."""
    split = membership_split(case, roles)
    if split is None:
        return None
    inside = {role: case.column(metric, role, "forget") for role in roles}
    outside = {role: case.column(metric, role, split) for role in roles}
    members, others = common(*inside.values()), common(*outside.values())
    if not members or not others:
        return None
    return Groups(
        {
            role: case.table.sample(column, "forget", records=members)
            for role, column in inside.items()
        },
        {
            role: case.table.sample(column, split, records=others, stream=CONTROL_STREAM)
            for role, column in outside.items()
        },
        split,
    )


def holdout_note(case: Comparison) -> str:
    """Say whether a model that never saw the data finds forget and holdout equally familiar.

    The mean LOSS AUC of the golds, and that of a bag of words, must have 0.5 in their 95 % interval
    and, from 59 records on, lie in 0.45-0.55 (below that, sampling noise alone leaves that range).
    When one fails, the sets differ in difficulty or in wording: AUCs then mean something only
    relative to gold, which is how they are gated in any case.
    """
    found = groups(case, MEMBERSHIP[0], case.golds) if case.golds else None
    if found is None:
        return "no gold model to check the comparison set with"
    members = [found.members[role] for role in case.golds]
    others = [found.others[role] for role in case.golds]
    pairs = list(zip(members, others, strict=True))
    value = float(np.mean([auc(inside.values, outside.values) for inside, outside in pairs]))
    draws = np.mean([auc_draws(*pair, seed=case.seed) for pair in pairs], axis=0)
    estimate = interval(value, draws, TWO_SIDED)
    n = min(len(members[0].values), len(others[0].values))
    what = f"gold's AUC on {found.split} records is {value:.2f}"
    hard = comparable(value, estimate.low, estimate.high, n=n, enough=SMALL)
    worded = words(case)
    told = worded.auc(case.seed) if worded else None
    if told is not None:
        what += f", that of a bag of words {told.value:.2f}"
    alike = told is None or comparable(*told, n=n, enough=SMALL)
    if hard and alike:
        return f"{what}: the comparison set is as hard as the forget set"
    other = "easier or harder" if alike else "worded otherwise"
    return f"{what}: the comparison set is {other}, so only the distance to gold counts"


class _Shift(NamedTuple):
    estimate: Estimate
    """AUC of a model minus the mean AUC of the golds, with one-sided 95 % bounds."""
    n: int
    split: str


def _shift(case: Comparison, metric: ScoreMetric, role: str) -> _Shift | None:
    found = groups(case, metric, (role, *case.golds))
    if found is None:
        return None
    values, draws = {}, {}
    for each in (role, *case.golds):
        pair = found.members[each], found.others[each]
        values[each] = auc(pair[0].values, pair[1].values)
        draws[each] = auc_draws(*pair, seed=case.seed)
    shift = interval(
        values[role] - float(np.mean([values[gold] for gold in case.golds])),
        draws[role] - np.mean([draws[gold] for gold in case.golds], axis=0),
        ONE_SIDED,
    )
    n = min(len(found.members[role].values), len(found.others[role].values))
    return _Shift(shift, n, found.split)


def _gate(case: Comparison, metric: ScoreMetric, note: str) -> Gate:
    name = f"AUC {metric.id} minus gold"
    if reason := unfit(metric.id):
        return missing(Axis.PRIVACY, name, margin=case.policy.privacy, reason=reason)
    found = _shift(case, metric, case.subject)
    if found is None:
        reason = "no holdout or control records were scored by the model and all golds"
        return missing(Axis.PRIVACY, name, margin=case.policy.privacy, reason=reason)
    shift, n = found.estimate, found.n
    policy = case.policy.privacy / 2 if n >= MANY else case.policy.privacy
    margin = widened(policy, _noise_sd(case, metric))
    status = judge_equivalence(shift.low, shift.high, margin)
    if status is Status.PASS and not _tells_the_original(case, metric, found.split, margin):
        reason = f"on this comparison set the original itself cannot be told from gold; {note}"
        return missing(Axis.PRIVACY, name, margin=margin, reason=reason, n=n)
    return Gate(
        axis=Axis.PRIVACY,
        name=name,
        value=shift.value,
        low=shift.low,
        high=shift.high,
        margin=margin,
        n=n,
        status=status,
        reason=note,
        needed=_needed(shift, margin, n) if status is Status.INCONCLUSIVE else None,
    )


def _tells_the_original(case: Comparison, metric: ScoreMetric, split: str, margin: float) -> bool:
    """Tell whether the same test fails the original; taken for granted where it was not scored."""
    known = _shift(case, metric, ORIGINAL)
    return known is None or known.split != split or known.estimate.low > margin


def _needed(shift: Estimate, margin: float, n: int) -> int | None:
    """Return records needed on the side where the interval sticks out most."""
    mirrored = Estimate(-shift.value, -shift.high, -shift.low)
    found = [records_needed(side, margin, n) for side in (shift, mirrored)]
    return max((count for count in found if count is not None), default=None)


def _noise_sd(case: Comparison, metric: ScoreMetric) -> float:
    found = groups(case, metric, case.noise) if len(case.noise) > 1 else None
    if found is None:
        return 0.0
    values = [auc(found.members[role].values, found.others[role].values) for role in case.noise]
    return float(np.std(values, ddof=1))


def privacy_gates(case: Comparison) -> tuple[Gate, ...]:
    """Return one two-sided gate per membership score: the shift of its AUC away from gold's.

    AUC of forget records against records never trained on, by LOSS, ZLib, Min-K and Min-K++. The
    one-sided 95 % bounds of AUC_u - AUC_g must lie within the margin (TOST): 0.10, or half of it
    from 400 records on, or twice the SD of the golds where that is larger, up to 0.15. Above: the
    data is still recognised (fail). Below: the model shuns the data more than a model that never
    saw it (scar). A pass counts only where the same test fails the original: non-members that are
    far harder than the forget set lie below it under every model, and then nothing was tested.

    Without gold nothing is gated: whether the comparison set is as hard as the forget set cannot
    be told without a model that never saw either, and an AUC away from 0.5 may be difficulty
    alone. The AUC itself is printed among the scores, with the 0.40-0.60 it should lie in.
    """
    if not case.golds:
        reason = (
            "without a model that never saw the data, difficulty and membership cannot be told "
            "apart; give a gold model"
        )
        return (missing(Axis.PRIVACY, "AUC minus gold", margin=case.policy.privacy, reason=reason),)
    note = holdout_note(case)
    return tuple(_gate(case, metric, note) for metric in MEMBERSHIP)


def membership_estimate(
    case: Comparison, metric: ScoreMetric, role: str
) -> tuple[Estimate, int] | None:
    """Return the AUC of one model with its 95 % interval and record count; None if lacking."""
    found = groups(case, metric, (role,))
    if found is None:
        return None
    members, others = found.members[role], found.others[role]
    count = min(len(members.values), len(others.values))
    return auc_interval(members, others, seed=case.seed), count
