"""Privacy: do the forgotten records still stand out, in either direction?"""

from typing import NamedTuple

import numpy as np

from expunge.evals.axes.forgetting import memory_gate
from expunge.evals.comparison import CONTROL_STREAM, Comparison
from expunge.evals.edit_detection import edit_detection_gate
from expunge.evals.evidence_table import common, mean_column
from expunge.evals.gates import missing
from expunge.evals.paired import paired
from expunge.evals.results import Gate
from expunge.metrics.base import MEMBERSHIP, ScoreMetric
from expunge.metrics.exact_tests import rank_test, sign_flip
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import (
    Estimate,
    Sample,
    auc_interval,
)

MEMBERSHIP_GATE = "membership residual"

GATED = MEMBERSHIP[2]
"""Min-K of 40 %."""


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


def privacy_gates(case: Comparison) -> tuple[Gate, ...]:
    """Return the two-sided gate of membership: residual memory of the least likely tokens.

    Min-K, the mean log-probability of the least likely 40 % of tokens, is what an outsider would
    look at to tell members. Paired with the golds record by record, as the residual memory of the
    forgetting axis is: 0 as a model that never saw the data, 1 as the original. Above the margin:
    the data is still recognised (fail). Measurably below minus the margin: the model shuns the data
    more than a model that never saw it (scar). AUCs against holdout records stand among the scores:
    of 20 records they decide nothing. Beside it, where it was measured, whether answers betray an
    edit.

    Without gold nothing is gated: whether the comparison set is as hard as the forget set cannot
    be told without a model that never saw either.
    """
    if not case.golds:
        reason = (
            "without a model that never saw the data, difficulty and membership cannot be told "
            "apart; give a gold model"
        )
        return (missing(Axis.PRIVACY, MEMBERSHIP_GATE, margin=case.policy.privacy, reason=reason),)
    edited = edit_detection_gate(case)
    return (
        memory_gate(case, Axis.PRIVACY, MEMBERSHIP_GATE, metric=GATED, two_sided=True),
        *((edited,) if edited.status is not Status.NOT_COMPUTABLE else ()),
    )


def person_rank(case: Comparison) -> tuple[float, int] | None:
    """Return how the one erased person ranks among control people; None where it cannot be said.

    The statistic of a person is the mean over their records of the judged model's log-probability
    minus the golds'. The erased person and fabricated people, whom no model ever saw, are alike for
    a model that never saw either: the p-value is rank / (m + 1), exact, whatever the noise.

    Returns:
        The one-sided p-value and the number of control people.
    """
    if not case.golds or len({*_people(case, "forget")}) != 1:
        return None
    own, others = _people(case, "forget"), _people(case, "control")
    if not others:
        return None
    (value,) = own.values()
    return rank_test(value, tuple(others.values())), len(others)


def _people(case: Comparison, split: str) -> dict[str, float]:
    """Return the mean excess over the golds of each named subject of a set, nats per token."""
    judged = case.column(MEMBERSHIP[0], case.subject, split)
    gold = mean_column(case.gold_columns(MEMBERSHIP[0], split))
    found: dict[str, list[float]] = {}
    for name in common(judged, gold) if judged and gold else ():
        subject = case.table.items[split][name].subject
        if subject:
            found.setdefault(subject, []).append(judged[name] - gold[name])
    return {subject: float(np.mean(values)) for subject, values in found.items()}


def sign_flip_p(case: Comparison) -> float | None:
    """Return the chance of so much memory in a gold, signs flipped by subject; None without gold.

    See `expunge.metrics.exact_tests.sign_flip`. With one subject it is .5 at least, and says
    nothing.
    """
    pairs = paired(case)
    if isinstance(pairs, str):
        return None
    return sign_flip(
        pairs.judged - pairs.golds.mean(axis=0), case.table.clusters("forget", pairs.records)
    )


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
