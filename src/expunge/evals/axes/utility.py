"""Utility: what else broke?"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from expunge.evals.comparison import Comparison
from expunge.evals.damage import (
    COLLAPSE,
    Measure,
    damage,
    damage_gate,
    knowledge,
    margin_of,
    middle,
    model_spread,
    not_measured,
    parts_of,
    told,
)
from expunge.evals.evidence_table import Column, Table, common
from expunge.evals.gates import interval_gate, missing
from expunge.evals.results import Gate
from expunge.evidence.store import ORIGINAL, Unit
from expunge.metrics.base import FORM_MISSED, MALFORMED, REFUSAL, SEQ_REP, AnswerMetric
from expunge.metrics.fluency import bounded_loss, perplexity, total_loss
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import (
    FEW_CLUSTERS,
    ONE_SIDED,
    TWO_SIDED,
    Array,
    Estimate,
    Sample,
    interval,
    resample,
)

GENERAL = "general text"


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


class _Texts(NamedTuple):
    """General texts under the judged model and its references, token-weighted."""

    records: tuple[str, ...]
    loss: dict[str, Array]
    """Role to bounded loss per record, nats, the judged model among them."""
    tokens: Array
    draws: dict[str, Array]
    """Role to mean loss per token in each resample of records."""

    def mean(self, role: str) -> float:
        """Return the mean bounded loss per token of a model."""
        return float(self.loss[role].sum() / self.tokens.sum())

    def per_record(self, role: str) -> Array:
        """Return the bounded loss per token of each record."""
        return self.loss[role] / self.tokens


def _texts(case: Comparison, keep: frozenset[str] | None = None) -> _Texts | None:
    columns: dict[str, Column] = {}
    for role in dict.fromkeys((case.subject, ORIGINAL, *case.golds)):
        rows = case.table.scored(role, "generic")
        kept = rows if keep is None else {n: row for n, row in rows.items() if n in keep}
        found = {name: bounded_loss(row) for name, row in kept.items()}
        column = {name: loss for name, loss in found.items() if loss is not None}
        if column:
            columns[role] = column
    if case.subject not in columns or ORIGINAL not in columns:
        return None
    records = common(*columns.values())
    tokens = losses(case.table, case.subject, "generic")[1]
    counts = np.array([tokens[name] for name in records])
    weights = resample(case.table.clusters("generic", records), seed=case.seed) if records else None
    loss = {r: np.array([column[name] for name in records]) for r, column in columns.items()}
    draws = (
        {role: (weights @ values) / (weights @ counts) for role, values in loss.items()}
        if weights is not None
        else {}
    )
    return _Texts(records, loss, counts, draws)


def general_gate(
    case: Comparison, name: str = GENERAL, *, keep: frozenset[str] | None = None, parts: int = 0
) -> Gate:
    """Decide on the relative rise of bounded perplexity on general text over the worse reference.

    `exp(L_u - L_ref) - 1` with L the mean loss per token, that of each token at most 3 nats. The
    tail is left out because it is noise: two seeds of one recipe give the least likely tenth of
    tokens losses that differ by far more than anything a reader would notice, and their plain
    perplexities differ by 13 % where they predict the next token equally often.

    The aim is to be no worse than the worse of original and middle gold, and being no worse than
    either of them shows it: each is tried, with 2.5 % in each tail when there are two, and the one
    with the lower upper bound decides. For the margin see `expunge.evals.damage.margin_of`.

    Args:
        case: Who is judged against whom.
        name: Name of the gate.
        keep: Restrict to these records.
        parts: Number of kinds of text that share the level; 0 for all texts together.
    """
    policy = case.policy.utility
    # Golds may have been scored on a part of the texts; the original was on all.
    texts = _texts(replace(case, golds=()), keep)
    beside = _texts(case, keep) if case.golds else texts
    if texts is None or beside is None:
        return not_measured(Axis.UTILITY, name, "generic", policy)
    if len(texts.records) < FEW_CLUSTERS:
        reason = f"{len(texts.records)} general texts are too few; give {FEW_CLUSTERS}"
        return missing(Axis.UTILITY, name, margin=policy, reason=reason, n=len(texts.records))
    golds = [role for role in case.golds if role in beside.loss and beside.records]
    chosen = [golds[middle([beside.mean(role) for role in golds])]] if golds else []
    # Two chances to pass share the 5 % between them.
    coverage = TWO_SIDED if chosen else ONE_SIDED
    coverage = 1 - (1 - coverage) / parts if parts else coverage
    rises = {ORIGINAL: _rise(texts, case.subject, ORIGINAL, coverage)}
    rises |= {role: _rise(beside, case.subject, role, coverage) for role in chosen}
    reference = min(rises, key=lambda role: rises[role].high)
    alike = [beside.per_record(role) for role in (ORIGINAL, *golds)]
    noise = model_spread(alike, of=len(texts.records))
    margin = margin_of(policy, noise, cap=COLLAPSE)
    reason = told(f"compared with the {reference.partition('-')[0]}", policy, margin.passes)
    gate = interval_gate(
        Axis.UTILITY,
        name,
        rises[reference],
        margin=margin.passes,
        n=len((texts if reference == ORIGINAL else beside).records),
        reason=reason,
    )
    if gate.status is Status.FAIL and rises[reference].low <= margin.fails:
        gate = replace(gate, status=Status.INCONCLUSIVE)
    return replace(gate, policy=policy if margin.passes > policy else None, part=bool(parts))


def _rise(texts: _Texts, judged: str, reference: str, coverage: float) -> Estimate:
    value = np.exp(texts.mean(judged) - texts.mean(reference)) - 1
    draws = np.exp(texts.draws[judged] - texts.draws[reference]) - 1
    return interval(float(value), draws, coverage)


def general_gates(case: Comparison) -> tuple[Gate, ...]:
    """Return the gate of all general texts, then one for each kind of text.

    The kind is the relation of the record: prose, code, arithmetic, another language. A kind fails
    by itself and never blocks: destroyed code is damage although the prose is fine.
    """
    kinds: dict[str, set[str]] = {}
    for record, item in case.table.items.get("generic", {}).items():
        if item.relation:
            kinds.setdefault(item.relation, set()).add(record)
    parts = [
        general_gate(case, f"{GENERAL}: {kind}", keep=frozenset(records), parts=len(kinds))
        for kind, records in kinds.items()
        if len(kinds) > 1
    ]
    return (general_gate(case), *parts)


def retain_gates(case: Comparison) -> tuple[Gate, ...]:
    """Decide on the relative loss of what is known of the retain set, by each of its measures.

    What counts as known: see `expunge.evals.damage.knowledge`. What decides are the records that
    training never rehearsed, see `expunge.evals.damage.parts_of`.
    """
    first, *others = knowledge(case, "retain")
    judged, beside = parts_of(case, "retain")
    found = [_retain_gate(case, first, judged, part=False)]
    found += [_retain_gate(case, measure, judged, part=True) for measure in others]
    if beside is not None:
        found.append(_retain_gate(case, first, beside, part=True, which=": rehearsed"))
    return tuple(found)


def _retain_gate(
    case: Comparison, measure: Measure, keep: frozenset[str] | None, *, part: bool, which: str = ""
) -> Gate:
    name, policy = f"{measure.metric.id} retain{which}", case.policy.retain
    found = damage(case, measure, "retain", keep=keep)
    if found is None:
        return not_measured(Axis.UTILITY, name, "retain", policy)
    return damage_gate(
        Axis.UTILITY, name, found, policy=policy, seed=case.seed, relative=True, part=part
    )


def _fluency_gate(case: Comparison, metric: AnswerMetric, split: str) -> Gate:
    name, policy = f"{metric.id} {split}", case.policy.fluency
    found = damage(case, Measure(metric), split)
    if found is None:
        return not_measured(Axis.UTILITY, name, split, policy)
    return damage_gate(Axis.UTILITY, name, found, policy=policy, seed=case.seed, alarm=True)


def utility_gates(case: Comparison) -> tuple[Gate, ...]:
    """Return general text, retained answers, fluency on forget prompts and over-refusal.

    Fluency is judged on the forget prompts because that is where damage shows; refusing them is
    not counted, refusing retained questions is. From level standard on, instructions are asked, and
    their answers must have the requested form.
    """
    form = _fluency_gate(case, FORM_MISSED, "generic")
    return (
        *general_gates(case),
        *retain_gates(case),
        _fluency_gate(case, MALFORMED, "forget"),
        _fluency_gate(case, SEQ_REP, "forget"),
        _fluency_gate(case, REFUSAL, "retain"),
        *((form,) if form.status is not Status.NOT_COMPUTABLE else ()),
    )
