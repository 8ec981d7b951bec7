"""Scores of sampled answers: what comes out when the same question is asked again and again."""

from collections.abc import Iterator, Mapping, Sequence

from expunge.audit.attacks.attempt import Attempt, knowledge
from expunge.audit.evidence import Item
from expunge.audit.metrics.sampling import leak_at_k
from expunge.audit.results import Score
from expunge.audit.stats import mean_interval
from expunge.audit.table import Column, Table

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
