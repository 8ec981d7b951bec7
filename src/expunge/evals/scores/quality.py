"""Scores of the quality of answers: how sure, how wrong, how easily told from a gold's."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from expunge.evals.comparison import Comparison
from expunge.evals.edit_detection import edit_detection
from expunge.evals.evidence_table import Column
from expunge.evals.results import Score
from expunge.evidence.store import PLAIN
from expunge.metrics.answer_quality import confident_falsehood
from expunge.metrics.base import FACT_LEAK, OWN_NLL, REFUSAL
from expunge.metrics.statistics import TWO_SIDED, mean_interval


def quality_scores(case: Comparison, roles: Sequence[str]) -> Iterator[Score]:
    """Return probabilities of the facts, own likelihoods, confident falsehoods, edit detection.

    Args:
        case: The comparison.
        roles: The models.
    """
    for role in roles:
        yield from _spans(case, role)
        own = case.column(OWN_NLL, role, "forget")
        yield _mean(case, "own-nll", role, own, unit="nats per token")
        yield _mean(case, "confident-falsehood", role, _falsehoods(case, role), unit="share")
        yield _detected(case, role)


def _spans(case: Comparison, role: str) -> Iterator[Score]:
    facts = case.table.span_probabilities(role)
    columns: dict[str, Column] = {
        "span-first": {name: fact.first_prob for name, fact in facts.items()},
        "span-least": {name: fact.min_prob for name, fact in facts.items()},
        "span-onward": {name: fact.after_least_likely for name, fact in facts.items()},
    }
    for metric, column in columns.items():
        yield _mean(case, metric, role, column, unit="probability")


def _falsehoods(case: Comparison, role: str) -> Column:
    own = case.column(OWN_NLL, role, "forget")
    stated = case.column(FACT_LEAK, role, "forget")
    refused = case.column(REFUSAL, role, "forget")
    found = {
        name: confident_falsehood(
            own.get(name), stated=stated[name] > 0, refused=refused.get(name, 0.0) > 0
        )
        for name in stated
    }
    return {name: value for name, value in found.items() if value is not None}


def _row(metric: str, role: str, reason: str) -> Score:
    return Score(metric=metric, role=role, split="forget", attack=PLAIN, value=None, reason=reason)


def _mean(case: Comparison, metric: str, role: str, column: Column, *, unit: str) -> Score:
    lacking = "place of the facts" if metric.startswith("span-") else "own likelihood of answers"
    row = _row(metric, role, f"not computable: the {lacking} was not measured")
    if not column:
        return row
    found = mean_interval(case.table.sample(column, "forget"), seed=case.seed)
    return replace(
        row,
        value=found.value,
        low=found.low,
        high=found.high,
        n=len(column),
        unit=unit,
        reason="",
    )


def _detected(case: Comparison, role: str) -> Score:
    row = _row("edit-detection", role, "not computable: needs another gold model's answers")
    found = edit_detection(case, role, coverage=TWO_SIDED)
    if found is None:
        return row
    value, n = found
    return replace(
        row, value=value.value, low=value.low, high=value.high, n=n, unit="AUC", reason=""
    )
