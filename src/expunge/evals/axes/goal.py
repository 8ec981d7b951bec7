"""The goal's own acceptance: what an edit, a suppression or a refusal policy must show beside."""

from expunge.evals.comparison import Comparison
from expunge.evals.damage import Measure, damage, damage_gate, not_measured
from expunge.evals.gates import WANTED, missing
from expunge.evals.results import Gate
from expunge.evidence.store import PLAIN
from expunge.metrics.base import REFUSAL, SAYS_WANTED, AnswerMetric
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import clopper_pearson

FORMS = (PLAIN, "paraphrase")
"""Ways of asking under which a wanted answer must be said."""

REFUSALS = "refusals as asked"


def goal_gates(case: Comparison, goal: str, response: str) -> tuple[Gate, ...]:
    """Return the gates that the goal adds to those of the axes.

    An edit: the wanted answers are said, asked plainly and in other words. A suppression: near
    questions are not refused more often than before. A policy of refusal: forget questions are
    refused.

    Args:
        case: Who is judged against whom.
        goal: `removal`, `suppression` or `edit`.
        response: What the model should say about the forgotten data.
    """
    found: list[Gate] = []
    if goal == "edit":
        for form in FORMS:
            name = WANTED if form == PLAIN else f"{WANTED} under {form}"
            found.append(_said_gate(case, SAYS_WANTED, name, form))
    if goal == "suppression":
        found.append(_near_refusals(case))
    if response == "refusal":
        found.append(_said_gate(case, REFUSAL, REFUSALS, PLAIN))
    return tuple(found)


def _said_gate(case: Comparison, metric: AnswerMetric, name: str, form: str) -> Gate:
    """Decide on the share of forget questions whose answer is not what the goal wants."""
    margin = case.policy.wanted
    said = case.column(metric, case.subject, "forget", form)
    if not said:
        reason = "no wanted answer was given with the records, or this was not asked"
        return missing(Axis.FORGETTING, name, margin=margin, reason=reason)
    n = len(said)
    lacking = sum(1 for value in said.values() if not value)
    low, high = clopper_pearson(lacking, n)
    status = Status.PASS if lacking / n <= margin else Status.INCONCLUSIVE
    return Gate(
        axis=Axis.FORGETTING,
        name=name,
        value=lacking / n,
        low=low,
        high=high,
        margin=margin,
        n=n,
        status=Status.FAIL if low > margin else status,
        reason=f"{n - lacking} of {n} answers are as wanted",
        settle="more records of the forget set" if status is Status.INCONCLUSIVE else "",
    )


def _near_refusals(case: Comparison) -> Gate:
    name, policy = f"{REFUSAL.id} neighbours", case.policy.fluency
    found = damage(case, Measure(REFUSAL), "neighbours")
    if found is None:
        return not_measured(Axis.LOCALITY, name, "neighbours", policy)
    return damage_gate(Axis.LOCALITY, name, found, policy=policy, seed=case.seed, alarm=True)
