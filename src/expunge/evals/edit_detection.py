"""Edit detection: do the answers betray that something was taken out of the model?

Where knowledge was cut out by force, greedy answers stumble: the model finds its own words
unlikely. The detector compares the mean negative log-probability of an answer under the model that
wrote it with the same of a gold's answer to the same question. It needs no knowledge of the erased
facts, so anybody who may query likelihoods can use it.
"""

from expunge.evals.comparison import Comparison
from expunge.evals.evidence_table import common
from expunge.evals.gates import missing
from expunge.evals.results import Gate
from expunge.metrics.base import OWN_NLL
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import ONE_SIDED, Estimate, auc_interval

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
