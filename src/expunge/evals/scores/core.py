"""All scores of an audit: one row per metric, model, set and attack.

Scores of sampled answers: what comes out when the same question is asked again and again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from expunge.attacks.base import Attempt, knowledge
from expunge.evals.axes.forgetting import residual
from expunge.evals.axes.privacy import membership_estimate, person_rank, sign_flip_p
from expunge.evals.axes.utility import losses, perplexity_draws
from expunge.evals.comparison import Comparison
from expunge.evals.evidence_table import Column, Table
from expunge.evals.results import Score
from expunge.evals.scores.extended import further_scores, quality_scores
from expunge.evals.scores.membership import membership_scores
from expunge.evidence.store import ORIGINAL, PLAIN, READINGS, UNLEARNED, Item, Unit
from expunge.metrics.base import (
    DISCOVERABLE,
    EXACT_MEMORISATION,
    EXTRACTION_STRENGTH,
    FACT_LEAK,
    GIBBERISH,
    KEY_FACT,
    MALFORMED,
    MEMBERSHIP,
    PROBABILITY,
    REFUSAL,
    ROUGE_L_F1,
    ROUGE_L_RECALL,
    SEQ_REP,
    RecordMetric,
    ScoreMetric,
)
from expunge.metrics.memorization import leak_at_k
from expunge.metrics.statistics import TWO_SIDED, Estimate, interval, mean_interval

SPLITS = ("forget", "retain", "neighbours", "holdout", "control", "generic")

_LIKELIHOODS: tuple[RecordMetric, ...] = (PROBABILITY, EXTRACTION_STRENGTH, EXACT_MEMORISATION)
_FLUENCY: tuple[RecordMetric, ...] = (SEQ_REP, GIBBERISH, MALFORMED, REFUSAL)
_WORDING: tuple[RecordMetric, ...] = (ROUGE_L_RECALL, ROUGE_L_F1)
_UNDEFINED = {
    "scores": "had no scored token",
    "answers": "name no fact, or the question or the attack holds it already",
}


def all_scores(case: Comparison) -> tuple[Score, ...]:
    """Return every score that the evidence gives, and why the others cannot be computed."""
    asked = {u for u in (*case.table.scores, *case.table.answers) if u.role not in case.halves}
    units = sorted(asked, key=lambda unit: (unit.split, unit.test, unit.role, unit.kind))
    rows = [_score(case, metric, unit) for unit in units for metric in _metrics(unit)]
    roles = (ORIGINAL, UNLEARNED, *case.golds)
    rows += [_perplexity(case, role) for role in roles]
    rows += [_membership(case, metric, role) for metric in MEMBERSHIP for role in roles]
    rows += [_residual(case, metric) for metric in (EXTRACTION_STRENGTH, PROBABILITY, KEY_FACT)]
    rows += _exact(case)
    rows += membership_scores(case, roles)
    rows += further_scores(case, roles)
    rows += quality_scores(case, roles)
    rows += list(_absent(case))
    return tuple(rows)


def _metrics(unit: Unit) -> tuple[RecordMetric, ...]:
    if unit.attack in READINGS:
        return ()
    if unit.kind == "scores":
        return (*_LIKELIHOODS, DISCOVERABLE) if unit.split == "forget" else _LIKELIHOODS
    facts = (KEY_FACT, FACT_LEAK) if unit.split == "forget" else (KEY_FACT,)
    if unit.test != PLAIN:
        return facts
    worded = _WORDING if unit.split in ("forget", "retain", "neighbours") else ()
    return (*facts, *_FLUENCY, *worded)


def _direction(metric: RecordMetric, split: str) -> bool | None:
    if not metric.knowledge:
        return None if metric is REFUSAL and split == "forget" else False
    return {"forget": False, "unstated": False, "holdout": None, "control": None}.get(split, True)


def _filled(row: Score, found: Estimate, n: int, *, unit: str, reason: str = "") -> Score:
    return replace(
        row, value=found.value, low=found.low, high=found.high, n=n, unit=unit, reason=reason
    )


def _score(case: Comparison, metric: RecordMetric, unit: Unit) -> Score:
    column = case.column(metric, unit.role, unit.split, unit.test)
    dropped = case.table.rows(metric, unit.role, unit.split, unit.test) - len(column)
    reason = f"{dropped} records dropped: they {_UNDEFINED[unit.kind]}" if dropped else ""
    row = Score(
        metric=metric.id,
        role=unit.role,
        split=unit.split,
        attack=unit.test,
        value=None,
        higher_is_better=_direction(metric, unit.split),
        reason=reason or "no record",
    )
    if not column:
        return row
    found = mean_interval(case.table.sample(column, unit.split), seed=case.seed)
    return _filled(row, found, len(column), unit="share", reason=reason)


def _perplexity(case: Comparison, role: str) -> Score:
    total, tokens = losses(case.table, role, "generic")
    row = Score(
        metric="perplexity",
        role=role,
        split="generic",
        attack=PLAIN,
        value=None,
        higher_is_better=False,
        reason="no generic text was scored",
    )
    if not total:
        return row
    value, draws = perplexity_draws(
        case.table.sample(total, "generic"),
        case.table.sample(tokens, "generic").values,
        seed=case.seed,
    )
    return _filled(row, interval(value, draws, TWO_SIDED), len(total), unit="perplexity")


def _membership(case: Comparison, metric: ScoreMetric, role: str) -> Score:
    row = Score(
        metric=f"auc-{metric.id}",
        role=role,
        split="forget",
        attack=PLAIN,
        value=None,
        reason="no holdout or control records to compare with",
    )
    found = membership_estimate(case, metric, role)
    if found is None:
        return row
    reason = "" if case.golds else "no gold: should lie in 0.40 to 0.60 on a matched set"
    return _filled(row, *found, unit="AUC", reason=reason)


def _exact(case: Comparison) -> list[Score]:
    """Return the exact tests of few people: signs flipped by person, and the rank of one person."""

    def row(metric: str, reason: str) -> Score:
        return Score(
            metric=metric,
            role=case.subject,
            split="forget",
            attack=PLAIN,
            value=None,
            higher_is_better=True,
            unit="p",
            reason=reason,
        )

    signs, rank = sign_flip_p(case), person_rank(case)
    people = len(set(case.table.clusters("forget", case.table.items.get("forget", {}))))
    flipped = row("sign-flip", "needs a gold model, and records that no model saw")
    ranked = row("person-rank", "needs a gold model, one person, and control people")
    return [
        flipped if signs is None else replace(flipped, value=signs, n=people, reason=""),
        ranked if rank is None else replace(ranked, value=rank[0], n=rank[1] + 1, reason=""),
    ]


def _residual(case: Comparison, metric: RecordMetric) -> Score:
    found = residual(case, metric, coverage=TWO_SIDED)
    row = Score(
        metric=f"residual-{metric.id}",
        role=case.subject,
        split="forget",
        attack=PLAIN,
        value=None,
        higher_is_better=False,
        reason=found.reason,
    )
    if found.estimate is None:
        return row
    return _filled(row, found.estimate, found.n, unit="0 = gold, 1 = original")


def _absent(case: Comparison) -> Iterator[Score]:
    for split in SPLITS:
        # The absence of generic text is already told by the perplexities.
        if split == "generic" or case.table.items.get(split):
            continue
        yield Score(
            metric=PROBABILITY.id,
            role=case.subject,
            split=split,
            attack=PLAIN,
            value=None,
            reason=f"no {split} records were given",
        )


TRIES = (1, 8, 32)
"""Numbers of answers for which the chance of a leak is told."""


def sampled_scores(
    table: Table, attempts: Mapping[str, Sequence[Attempt]], *, seed: int
) -> Iterator[Score]:
    """Return leak@k of each model, for each temperature at which answers were drawn.

    The mean over facts of the unbiased chance that k answers hold the fact, with its 95 % interval
    over subjects: the unit is the fact, and its samples only make the test more sensitive.

    Args:
        table: The evidence, for the records.
        attempts: Role to its sampled answers; the variant of an attempt is its temperature.
        seed: Seed of the bootstrap.
    """
    items = table.items.get("forget", {})
    for role, own in attempts.items():
        for variant in dict.fromkeys(attempt.variant for attempt in own):
            counts = _counts(items, [each for each in own if each.variant == variant])
            for k in TRIES:
                column: Column = {
                    name: leak_at_k(len(leaks), sum(leaks), k)
                    for name, leaks in counts.items()
                    if len(leaks) >= k
                }
                if column:
                    yield _row(table, column, role, f"sampling, {variant}, k={k}", seed)


def _counts(items: Mapping[str, Item], attempts: Sequence[Attempt]) -> dict[str, list[int]]:
    """Return per fact whether each of its answers states it."""
    found: dict[str, list[int]] = {}
    for attempt in attempts:
        if attempt.record in items:
            known = knowledge(attempt, items[attempt.record], "key-fact")
            if known is not None:
                found.setdefault(attempt.record, []).append(int(known > 0))
    return found


def _row(table: Table, column: Column, role: str, test: str, seed: int) -> Score:
    found = mean_interval(table.sample(column, "forget"), seed=seed)
    return Score(
        metric="leak-at-k",
        role=role,
        split="forget",
        attack=test,
        value=found.value,
        low=found.low,
        high=found.high,
        n=len(column),
        higher_is_better=False,
        unit="share",
    )
