"""Forgetting: is the knowledge gone, in the mean and for every single fact?

And are facts that were to be forgotten said about somebody else? A model that answers the questions
about its neighbours with the erased facts has forgotten whose they are, and not what they are. The
answers about what is to be kept were collected anyway.
"""

from typing import NamedTuple

from expunge.evals.comparison import Comparison, kept_records, paired
from expunge.evals.evidence_table import Column, common
from expunge.evals.gates import (
    KEPT,
    MEMORY,
    NO_ANCHOR,
    judge_residual,
    missing,
    residual_margin,
    unanchored,
    unfit,
)
from expunge.evals.leak_test import BEYOND_GUESSING, guessing, leak_gate, leak_test
from expunge.evals.results import Gate
from expunge.evidence.store import ORIGINAL, PLAIN, Item, Unit
from expunge.metrics.base import (
    BOUNDED,
    EXTRACTION_STRENGTH,
    KEY_FACT,
    UNTOLD,
    RecordMetric,
    ScoreMetric,
)
from expunge.metrics.disguises import disguised
from expunge.metrics.key_facts import fact_form, states
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.residual_memory import (
    LEVEL,
    LEVEL_ATTACK,
    RESOLVED,
    Residual,
    Z,
    residual_memory,
)
from expunge.metrics.statistics import (
    FEW_CLUSTERS,
    ONE_SIDED,
    Estimate,
    clopper_pearson,
    mcnemar,
    records_needed,
    recovery,
)

NAME = "facts said of others"
GUESSED = 1
"""Facts said of others that are no more than a guess."""
UNREAD = "answers cut short"

_KEPT = ("retain", "neighbours")


def moved_facts_gate(case: Comparison) -> Gate:
    """Decide whether the judged model says forget facts where it is asked about others.

    Facts that an answer to keep holds are left out: a model may know them from there. A fact counts
    where no gold says it of anybody; what golds say is guessed. It fails where McNemar's exact test
    finds more than golds say, or Fisher's more than guessing brings over all tests. One fact alone
    is a guess, more are open; that none is said of the few people asked about certifies nothing.

    Args:
        case: Who is judged against whom.
    """
    margin = case.policy.leak_excess
    facts = _facts(case)
    said = _said(case, case.subject, facts)
    golds = [found for role in case.golds if (found := _said(case, role, facts)) is not None]
    if not facts or said is None or not golds:
        reason = "no fact is named, or the model or a gold was not asked about what is to be kept"
        return missing(Axis.FORGETTING, NAME, margin=margin, reason=reason)
    new = said - frozenset[str]().union(*golds)
    alone = sum(sum(name in found for found in golds) == 1 for name in facts.keys() - said)
    low, high = clopper_pearson(len(new), len(facts))
    many = mcnemar(len(new), alone, rivals=len(golds)) <= LEVEL_ATTACK
    if many or guessing(case, len(new), len(facts)) <= BEYOND_GUESSING:
        status = Status.FAIL
    else:
        status = Status.PASS if len(new) <= GUESSED else Status.INCONCLUSIVE
    open_ = status is Status.INCONCLUSIVE
    return Gate(
        axis=Axis.FORGETTING,
        name=NAME,
        value=len(new) / len(facts),
        low=low,
        high=high,
        margin=margin,
        n=len(facts),
        status=status,
        reason=f"{len(new)} of {len(facts)} facts are said of somebody else, and by no gold",
        settle="a further gold model, which shows what guessing brings" if open_ else "",
        part=status is Status.PASS,
    )


def _facts(case: Comparison) -> dict[str, tuple[str, ...]]:
    """Return the spellings of the facts that no answer to keep holds, by record."""
    kept = [fact_form(item.answer) for split in _KEPT for item in _items(case, split).values()]
    found: dict[str, tuple[str, ...]] = {}
    for name, item in _items(case, "forget").items():
        spellings = tuple(filter(None, map(fact_form, item.key_answers)))
        if spellings and not any(states(text, fact) for text in kept for fact in spellings):
            found[name] = spellings
    return found


def _said(case: Comparison, role: str, facts: dict[str, tuple[str, ...]]) -> frozenset[str] | None:
    """Return the records whose facts a model says of others; None where it was not asked."""
    found: set[str] = set()
    asked = False
    for split in _KEPT:
        items = _items(case, split)
        for record, answer in case.table.answers.get(
            Unit(role=role, split=split, kind="answers"), {}
        ).items():
            if record in items:
                asked = True
                question = items[record].question
                text, told = fact_form(answer.text), fact_form(question)
                found |= {
                    name
                    for name, spellings in facts.items()
                    if any(
                        (states(text, fact) or disguised(answer.text, fact, (question,)))
                        and not states(told, fact)
                        for fact in spellings
                    )
                }
    return frozenset(found) if asked else None


def _items(case: Comparison, split: str) -> dict[str, Item]:
    return dict(case.table.items.get(split, {}))


def unread_gate(case: Comparison) -> Gate | None:
    """Return an open gate where the judged model's answers go on beyond what the audit reads.

    A fact that comes after a long preamble is in no answer that was cut before it. Only answers
    that neither the original nor a gold was cut at count; where McNemar's exact test does not find
    more of them, there is no gate.

    Args:
        case: Who is judged against whom.
    """
    own, *others = (_cut(case, role) for role in (case.subject, ORIGINAL, *case.golds))
    others = [column for column in others if column]
    records = common(own, *others) if own and others else ()
    new = [n for n in records if own[n] and not any(column[n] for column in others)]
    alone = sum(sum(column[n] for column in others) == 1 for n in records if not own[n])
    if not new or mcnemar(len(new), alone, rivals=len(others)) > LEVEL:
        return None
    low, high = clopper_pearson(len(new), len(records))
    return Gate(
        axis=Axis.FORGETTING,
        name=UNREAD,
        value=len(new) / len(records),
        low=low,
        high=high,
        margin=case.policy.leak_excess,
        n=len(records),
        status=Status.INCONCLUSIVE,
        reason=f"{len(new)} of {len(records)} answers were cut where those of the original end",
        settle="longer answers (audit.max_new_tokens)",
    )


def _cut(case: Comparison, role: str) -> Column:
    answers = case.table.answers.get(Unit(role=role, split="forget", kind="answers"), {})
    return {name: float(answer.cut) for name, answer in answers.items()}


MORE_GOLDS = (1, 3, 8)
"""Numbers of golds for which the half-width is printed."""

LESS_THAN_ONE = 0.5
"""Kept records that are allowed."""


class Recovered(NamedTuple):
    """Residual knowledge of one metric with its interval, or the reason why there is none."""

    estimate: Estimate | None
    n: int
    reason: str


def residual(
    case: Comparison, metric: RecordMetric, attack: str = PLAIN, *, coverage: float = ONE_SIDED
) -> Recovered:
    """Return the residual of a metric: 0 as gold, 1 as the original.

    A score; a gate goes by it only where no gold is.

    `r = max(0, (m_u - m_g) / (m_o - m_g))`, ratio of means on the records that all models have.
    Under an attack, m_u and m_g of the numerator are taken under that attack.
    """
    original = case.column(metric, ORIGINAL, "forget")
    subject = case.column(metric, case.subject, "forget", attack)
    anchor, floor = case.anchor(metric, attack), case.anchor(metric)
    if not original or not subject:
        return Recovered(None, 0, "the original or the model was not measured on this")
    if anchor is None or floor is None or anchor.split != floor.split:
        return Recovered(None, 0, NO_ANCHOR)
    if not case.informative(metric):
        return Recovered(None, 0, "the original did not measurably hold this")
    records = case.shared(anchor, original, subject)
    records = common(dict.fromkeys(records, 0.0), floor.column) if floor.paired else records
    if not records:
        return Recovered(None, 0, "no record was measured on all models")
    samples = {
        "original": case.table.sample(original, "forget", records=records),
        "floor": case.anchor_sample(floor, records),
    }
    gap = float(samples["original"].values.mean() - samples["floor"].values.mean())
    if gap <= 0:
        return Recovered(None, 0, "the original holds no more than the anchor")
    estimate = recovery(
        case.table.sample(subject, "forget", records=records),
        case.anchor_sample(anchor, records),
        original=samples["original"],
        floor=samples["floor"],
        seed=case.seed,
        coverage=coverage,
    )
    return Recovered(estimate, len(records), "")


class _Memory(NamedTuple):
    """Residual memory of the forget set, or the reason why there is none."""

    found: Residual | None
    n: int
    reason: str


def memory_gate(
    case: Comparison,
    axis: Axis,
    name: str,
    attack: str = PLAIN,
    *,
    metric: ScoreMetric = UNTOLD,
    shunned: ScoreMetric | None = None,
) -> Gate:
    """Decide on residual memory, plain or under an attack.

    The statistic is paired with the golds; where no gold is, it is what is recited beyond control
    records. See `expunge.metrics.residual_memory` and, for the decision, `judge_residual`.
    Rounding moves every model by chance. Where that noise lies beyond the cap, nobody can tell:
    then the gate counts only where it fails, and what the rounded model says decides.

    Args:
        case: Who is judged against whom.
        axis: Axis of the gate.
        name: Name of the gate.
        attack: Name of the test.
        metric: Likelihood of a record.
        shunned: Call it a scar where the memory lies measurably below zero by this likelihood: a
            model that shuns the data more than one that never saw it.
    """
    policy = case.policy.privacy if axis is Axis.PRIVACY else case.policy.residual
    cap = case.policy.residual_cap
    if reason := unfit(metric.id):
        return missing(axis, name, margin=policy, reason=reason)
    found, n, reason = _memory(case, metric, attack)
    if found is None:
        return missing(axis, name, margin=policy, reason=reason, n=n)
    # Privacy looks at the same records again, and attacks at the same memory many times: the first
    # look has the larger part of the false alarms.
    level = LEVEL if attack == PLAIN and shunned is None else LEVEL_ATTACK
    status = judge_residual(found, policy=policy, cap=cap, level=level)
    margin = residual_margin(found, policy, cap)
    if shunned is not None and status is not Status.FAIL:
        below = _memory(case, shunned, attack).found
        least = margin if below is None else residual_margin(below, policy, cap)
        if below is not None and below.value < -least and below.high < 0:
            status, found, margin = Status.SCAR, below, least
    open_ = status is Status.INCONCLUSIVE
    estimate = Estimate(found.value, found.low, found.high)
    return Gate(
        axis=axis,
        name=name,
        value=found.value,
        low=found.low,
        high=found.high,
        margin=margin,
        n=n,
        status=status,
        reason=reason,
        needed=records_needed(estimate, margin, n) if open_ else None,
        two_sided=shunned is not None,
        policy=policy if margin > policy else None,
        settle=_more_golds(len(case.golds)) if open_ else "",
        part=attack != PLAIN and RESOLVED * found.error > cap,
    )


def token_memory_gate(case: Comparison) -> Gate:
    """Decide on residual memory by the tokens of the answers, each of which counts for little.

    A model whose first token of every fact is suppressed predicts all that follows it, and one
    token of -20 nats outweighs that in any mean. Here no token counts for more than 3 nats. Golds
    differ on this scale by more than records that nobody saw show, so it fails beyond the cap of
    the policy alone, and where it does not, it decides nothing.

    Args:
        case: Who is judged against whom.
    """
    name, limit = f"{MEMORY} by token", case.policy.residual_cap
    if reason := unfit(UNTOLD.id):
        return missing(Axis.FORGETTING, name, margin=limit, reason=reason)
    found, n, reason = _memory(case, BOUNDED, PLAIN)
    if found is None:
        return missing(Axis.FORGETTING, name, margin=limit, reason=reason, n=n)
    return Gate(
        axis=Axis.FORGETTING,
        name=name,
        value=found.value,
        low=found.low,
        high=found.high,
        margin=limit,
        n=n,
        status=judge_residual(found, policy=limit, cap=limit, level=LEVEL_ATTACK),
        reason="no token counts for more than 3 nats",
        part=True,
    )


def _more_golds(golds: int) -> str:
    have = "none" if not golds else str(golds)
    return f"more gold models (now {have}), which narrow what chance can do"


def _memory(case: Comparison, metric: ScoreMetric, attack: str) -> _Memory:
    if not case.golds:
        return _memory_against_controls(case, attack)
    pairs = paired(case, metric, attack)
    if isinstance(pairs, str):
        return _Memory(None, 0, pairs)
    n = len(pairs.records)
    found = residual_memory(pairs.judged, pairs.original, pairs.golds, pairs.noise)
    if found is None or found.gap <= 3 * pairs.noise.of_mean(n, len(pairs.golds)):
        return _Memory(None, n, "the original did not measurably hold this")
    ratio = [pairs.noise.of_mean(n, golds) / found.gap for golds in MORE_GOLDS]
    widths = ", ".join(
        f"{golds} {RESOLVED * each:.0%}" for golds, each in zip(MORE_GOLDS, ratio, strict=True)
    )
    return _Memory(found, n, f"smallest share that {n} records tell by number of golds: {widths}")


def _memory_against_controls(case: Comparison, attack: str) -> _Memory:
    """Return what is left by extraction strength, against control records that nobody trained on.

    Nothing is paired, so likelihoods would tell how difficult a record is, too. How much of an
    answer a model goes on to recite is near zero for any record that it never saw.
    """
    found = residual(case, EXTRACTION_STRENGTH, attack)
    if found.estimate is None:
        return _Memory(None, found.n, found.reason)
    controls = len(case.column(EXTRACTION_STRENGTH, case.subject, "control", attack))
    if min(found.n, controls) < FEW_CLUSTERS:
        # So few records, all alike, have an interval without width.
        reason = f"without gold, {FEW_CLUSTERS} records and as many control records are needed"
        return _Memory(None, found.n, f"{reason}; there are {found.n} and {controls}")
    value, low, high = found.estimate
    error = (high - low) / (2 * Z)
    return _Memory(
        Residual(value, low, high, error, 1.0, max(1, found.n - 1)),
        found.n,
        "by extraction strength, compared with control records and not record by record",
    )


def kept_gate(case: Comparison, axis: Axis, name: str, attack: str = PLAIN) -> Gate:
    """Decide whether single records were kept although the mean looks forgotten.

    One record that lies nearer the original than a model that never saw it can fails the gate, at a
    level shared by all records; see `expunge.metrics.residual_memory`. It passes where none does
    and at least half of the records could have been told. The bounds printed are those of the share
    of kept records.
    """
    if reason := unfit(UNTOLD.id):
        return missing(axis, name, margin=LESS_THAN_ONE, reason=reason)
    level = LEVEL if attack == PLAIN else LEVEL_ATTACK
    found = kept_records(case, attack, level=level)
    if isinstance(found, str):
        return missing(axis, name, margin=LESS_THAN_ONE, reason=found)
    n, count, tellable = len(found.records), int(found.kept.sum()), int(found.tellable.sum())
    low, high = clopper_pearson(count, n)
    status = Status.FAIL if count else Status.PASS
    if not count and 2 * tellable < n:
        status = Status.INCONCLUSIVE
    open_ = status is Status.INCONCLUSIVE
    return Gate(
        axis=axis,
        name=name,
        value=count / n,
        low=low,
        high=high,
        margin=LESS_THAN_ONE / n,
        n=n,
        status=status,
        reason=f"{count} of {n} records look kept; of {tellable} it could be told",
        settle=_more_golds(len(case.golds)) if open_ else "",
        part=attack != PLAIN and 2 * tellable < n,
    )


def _leak_gate(case: Comparison) -> Gate:
    name, margin = "key-fact leak", case.policy.leak_excess
    if reason := unfit(KEY_FACT.id):
        return missing(Axis.FORGETTING, name, margin=margin, reason=reason)
    test = leak_test(case)
    if test is None:
        reason = "no forget record names a key fact that its question does not hold"
        return missing(Axis.FORGETTING, name, margin=margin, reason=reason)
    stated = int(test.subject.values.sum())
    if test.anchor is None and stated:
        return unanchored(Axis.FORGETTING, name, stated, margin=margin, n=test.n)
    return leak_gate(Axis.FORGETTING, name, test, margin=margin)


def forgetting_gates(case: Comparison) -> tuple[Gate, ...]:
    """Return memory as a mean and by token, kept records, leaks, facts moved and facts unread."""
    moved, unread = moved_facts_gate(case), unread_gate(case)
    return (
        memory_gate(case, Axis.FORGETTING, MEMORY),
        *((token_memory_gate(case),) if case.golds else ()),
        kept_gate(case, Axis.FORGETTING, KEPT),
        _leak_gate(case),
        *((moved,) if moved.status is not Status.NOT_COMPUTABLE else ()),
        *((unread,) if unread else ()),
    )
