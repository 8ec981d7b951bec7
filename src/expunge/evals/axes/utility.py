"""Utility: what else broke?"""

from dataclasses import replace

import numpy as np

from expunge.evals.comparison import Comparison
from expunge.evals.damage import (
    Measure,
    damage,
    knowledge,
    middle,
    not_measured,
    rate_gate,
    relative_loss,
    spread,
    told,
    widened,
    words,
)
from expunge.evals.evidence_table import Column, Table, common
from expunge.evals.gates import interval_gate, missing
from expunge.evals.results import Gate
from expunge.evidence.store import ORIGINAL, Unit
from expunge.metrics.base import GIBBERISH, REFUSAL, SEQ_REP, AnswerMetric
from expunge.metrics.fluency import perplexity, total_loss
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import (
    FEW_CLUSTERS,
    ONE_SIDED,
    TWO_SIDED,
    Array,
    Sample,
    interval,
    resample,
    zero_events_needed,
)

SEEDS = 0.30
"""Widest margin of perplexity that golds can make. Fine-tuning on answers moves general text by far
more than answers: two seeds of one TOFU gold on SmolLM2-135M lie at 308 and 395."""


def losses(table: Table, role: str, split: str) -> tuple[Column, Column]:
    """Return total negative log-probability (nats) and number of content tokens per record."""
    rows = table.scores.get(Unit(role=role, split=split, kind="scores"), {})
    found = {name: total_loss(row) for name, row in rows.items()}
    total = {name: loss for name, loss in found.items() if loss is not None}
    return total, {name: float(rows[name].content) for name in total}


def perplexity_draws(total: Sample, tokens: Array, *, seed: int) -> tuple[float, Array]:
    """Return token-weighted perplexity, and its value in each resample of records."""
    weights = resample(total.clusters, seed=seed, stream=total.stream)
    value = perplexity(total.values.tolist(), tokens.tolist())
    return value, np.exp((weights @ total.values) / (weights @ tokens))


def perplexity_gate(case: Comparison) -> Gate:
    """Decide on the relative rise of perplexity on general text over the worse reference.

    `ppl_u / ppl_ref - 1`, token-weighted, paired by text. The aim is to be no worse than the worse
    of original and middle gold, and being no worse than either of them shows it: each is tried,
    with 2.5 % in each tail when there are two, and the one with the lower upper bound decides.
    (Models trained apart differ text by text, so few texts say more about the original than about
    gold.) The margin is the policy's, or that of the golds where they differ by more.
    """
    name, policy = "perplexity generic", case.policy.utility
    roles = dict.fromkeys((case.subject, ORIGINAL, *case.golds, *case.noise))
    totals = {role: total for role in roles if (total := losses(case.table, role, "generic")[0])}
    if case.subject not in totals or ORIGINAL not in totals:
        return not_measured(Axis.UTILITY, name, "generic", policy)
    records = common(*totals.values())
    if len(records) < FEW_CLUSTERS:
        reason = f"{len(records)} general texts are too few for an interval; give {FEW_CLUSTERS}"
        return missing(Axis.UTILITY, name, margin=policy, reason=reason, n=len(records))
    tokens = losses(case.table, case.subject, "generic")[1]
    counts = case.table.sample(tokens, "generic", records=records).values
    found = {
        role: perplexity_draws(
            case.table.sample(column, "generic", records=records), counts, seed=case.seed
        )
        for role, column in totals.items()
    }
    golds = [role for role in case.golds if role in found]
    chosen = [golds[middle([found[role][0] for role in golds])]] if golds else []
    # Two chances to pass share the 5 % between them.
    coverage = TWO_SIDED if chosen else ONE_SIDED
    value, draws = found[case.subject]
    rises = {
        role: interval(value / found[role][0] - 1, draws / found[role][1] - 1, coverage)
        for role in (ORIGINAL, *chosen)
    }
    reference = min(rises, key=lambda role: rises[role].high)
    levels = [found[role][0] / found[reference][0] for role in case.noise if role in found]
    margin = widened(policy, spread(levels), most=SEEDS)
    reason = told(f"compared with the {reference.partition('-')[0]}", policy, margin)
    rise = rises[reference]
    return interval_gate(Axis.UTILITY, name, rise, margin=margin, n=len(records), reason=reason)


def retain_gate(case: Comparison) -> Gate:
    """Decide on the relative loss of what is known of the retain set.

    What counts as known: see `expunge.evals.damage.knowledge`. Where the records are too few to
    bound the loss even if none was lost (59 for a margin of 5 % when all are known), the gate also
    passes without any newly wrong answer, or when no more is lost in all than under the reference
    or than golds differ by; see `expunge.evals.damage.rate_gate`.
    """
    measure, policy = knowledge(case, "retain"), case.policy.retain
    name = f"{measure.metric.id} retain"
    found = damage(case, measure, "retain")
    if found is None:
        return not_measured(Axis.UTILITY, name, "retain", policy)
    loss = relative_loss(found, seed=case.seed)
    if loss is None:
        reason = "neither the original nor the gold answers a retain record rightly"
        return missing(Axis.UTILITY, name, margin=policy, reason=reason, n=found.n)
    right = float(1 - found.reference.values.mean())
    margin = widened(policy, found.spread / right)
    reason = told(words(found), policy, margin)
    gate = interval_gate(Axis.UTILITY, name, loss, margin=margin, n=found.n, reason=reason)
    small = found.n < zero_events_needed(policy * right)
    clean = found.new == 0 or loss.value <= widened(0.0, found.spread / right)
    if gate.status is Status.INCONCLUSIVE and small and clean:
        return replace(gate, status=Status.PASS, needed=None)
    return gate


def _fluency_gate(case: Comparison, metric: AnswerMetric, split: str) -> Gate:
    name, policy = f"{metric.id} {split}", case.policy.fluency
    found = damage(case, Measure(metric), split)
    if found is None:
        return not_measured(Axis.UTILITY, name, split, policy)
    return rate_gate(case, Axis.UTILITY, name, found, policy=policy, alarm=True)


def utility_gates(case: Comparison) -> tuple[Gate, ...]:
    """Return perplexity, retained answers, fluency on forget prompts and over-refusal.

    Fluency is judged on the forget prompts because that is where damage shows; refusing them is
    not counted, refusing retained questions is.
    """
    return (
        perplexity_gate(case),
        retain_gate(case),
        _fluency_gate(case, GIBBERISH, "forget"),
        _fluency_gate(case, SEQ_REP, "forget"),
        _fluency_gate(case, REFUSAL, "retain"),
    )
