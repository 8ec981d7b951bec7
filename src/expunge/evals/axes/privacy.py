"""Privacy: do the forgotten records still stand out, in either direction?

And do the answers betray that something was taken out of the model? Where knowledge was cut out by
force, greedy answers stumble: the model finds its own words unlikely. The detector compares the
mean negative log-probability of an answer under the model that wrote it with the same of a gold's
answer to the same question. It needs no knowledge of the erased facts, so anybody who may query
likelihoods can use it.
"""

from typing import NamedTuple

import numpy as np

from expunge.evals.axes.forgetting import memory_gate
from expunge.evals.comparison import CONTROL_STREAM, Comparison, paired
from expunge.evals.evidence_table import common, mean_column
from expunge.evals.gates import missing
from expunge.evals.results import Gate
from expunge.metrics.base import MEMBERSHIP, OWN_NLL, SHUNNED, UNTOLD_MIN_K, ScoreMetric
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import (
    ONE_SIDED,
    Estimate,
    Sample,
    auc_interval,
    rank_test,
    sign_flip,
)

NAME = "answers betray an edit"

DETECTED = 0.20
"""AUC above 0.5 from which on answers betray an edit: seven of ten pairs are told apart."""

KNOWN_GOLDS = 3
"""Golds from which on the error rate of the detector counts as known."""


def edit_detection(
    case: Comparison, role: str, *, coverage: float = ONE_SIDED
) -> tuple[Estimate, int] | None:
    """Return the AUC of the detector against the nearest gold, and the number of records.

    0.5: the answers of the model are as sure as those of a gold; 1: every answer is less sure than
    every answer of every gold.

    Args:
        case: The comparison; its golds but `role` are the reference.
        role: Who is judged.
        coverage: Coverage of the interval.

    Returns:
        None where the own likelihoods of the model or of golds were not measured.
    """
    own = case.column(OWN_NLL, role, "forget")
    golds = [case.column(OWN_NLL, gold, "forget") for gold in case.golds if gold != role]
    found: list[tuple[Estimate, int]] = []
    for gold in golds:
        records = common(own, gold) if own and gold else ()
        if records:
            samples = (case.table.sample(each, "forget", records=records) for each in (own, gold))
            judged, reference = samples
            estimate = auc_interval(judged, reference, seed=case.seed, coverage=coverage)
            found.append((estimate, len(records)))
    return min(found, key=lambda each: each[0].value, default=None)


def false_alarms(case: Comparison) -> tuple[int, int]:
    """Return how many golds the detector takes for edited models, and how many it could judge.

    Each gold is compared with the others.
    """
    found = [edit_detection(case, gold) for gold in case.golds]
    known = [each[0] for each in found if each is not None]
    return sum(map(_detected, known)), len(known)


def _detected(estimate: Estimate) -> bool:
    return estimate.low - 0.5 > DETECTED


def edit_detection_gate(case: Comparison) -> Gate:
    """Decide whether the detector is sure that the judged model was edited.

    A scar when the lower bound of AUC - 0.5 exceeds 0.2, else a pass: a detector that is not sure
    reveals nothing, and more records would be more questions that an observer has to know. It
    decides only where its error rate is known: three golds or more, none of which it takes for an
    edited model. Elsewhere it is reported, and what it finds is unsettled.

    Args:
        case: Who is judged against whom.
    """
    found = edit_detection(case, case.subject)
    if found is None:
        reason = "the likelihoods of the model's and a gold's own answers were not measured"
        return missing(Axis.PRIVACY, NAME, margin=DETECTED, reason=reason)
    estimate, n = found
    alarms, golds = false_alarms(case)
    judged = golds >= KNOWN_GOLDS and not alarms
    found_out = Status.SCAR if judged else Status.INCONCLUSIVE
    errors = f"{alarms} of {golds} golds are told from the others alike" if golds else ""
    return Gate(
        axis=Axis.PRIVACY,
        name=NAME,
        value=estimate.value - 0.5,
        low=estimate.low - 0.5,
        high=estimate.high - 0.5,
        margin=DETECTED,
        n=n,
        status=found_out if _detected(estimate) else Status.PASS,
        reason=f"{estimate.value:.0%} of pairs of answers are told apart from a gold's by how sure "
        f"the model is of them; 50 % is chance; {errors or 'its error rate is not known'}",
        part=not judged,
    )


MEMBERSHIP_GATE = "membership residual"


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
    look at to tell members; what the question tells is left out (`untold_likelihood`).
    Paired with the golds record by record, as the residual memory of the forgetting axis is: 0 as a
    model that never saw the data, 1 as the original. Above the margin: the data is still recognised
    (fail). Measurably below minus the margin: the model shuns the data more than a model that never
    saw it (scar); no floor hides there how far below it lies. AUCs against holdout records stand
    among the scores: of 20 records they decide nothing. Beside it, where it was measured, whether
    answers betray an edit.

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
        memory_gate(case, Axis.PRIVACY, MEMBERSHIP_GATE, metric=UNTOLD_MIN_K, shunned=SHUNNED),
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

    See `expunge.metrics.statistics.sign_flip`. With one subject it is .5 at least, and says
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
