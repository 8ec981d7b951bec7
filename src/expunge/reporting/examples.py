"""Facts one by one: which came back, and which are shown as examples, by a fixed rule."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from expunge.evals.evidence_table import Table
from expunge.evidence.store import PLAIN, Answer, EvidenceStore, Item, Unit
from expunge.metrics.base import FACT_LEAK
from expunge.metrics.memorization import mean_log_probability

RULE = (
    "Facts are ranked by the number of attempts that brought them back after the run; among "
    "equals, by how likely the model still finds the true answer. Shown are the first of that "
    "ranking (worst case), the middle one (median), and one drawn from the rest with seed {seed} "
    "(random)."
)
"""How examples are chosen; printed above them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExampleAttempt:
    """One question to one model about one fact, and whether the fact came back."""

    attack: str
    answer: Answer
    leaked: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class FactHistory:
    """One fact of the forget set and every attempt to get it: plain first, then attacks by name."""

    item: Item
    before: tuple[ExampleAttempt, ...]
    after: tuple[ExampleAttempt, ...]
    gold: tuple[ExampleAttempt, ...]
    """Of all retrained reference models, plain questions first."""
    likelihood: float
    """Mean log-probability per token of the true answer after the run; -inf where not measured."""

    @property
    def returns(self) -> int:
        """Number of attempts after the run that brought the fact back."""
        return sum(attempt.leaked for attempt in self.after)

    @property
    def shown(self) -> ExampleAttempt:
        """The attempt to show: the first that brought the fact back, else the plain one."""
        return next((attempt for attempt in self.after if attempt.leaked), self.after[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """How many facts one model gave away in any attempt."""

    returned: int
    facts: int
    attempts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A fact and why it is shown: `worst case`, `median` or `random`."""

    why: str
    fact: FactHistory


def facts(store: EvidenceStore) -> tuple[FactHistory, ...]:
    """Collect, worst first, the facts of the forget set that the unlearned model was asked about.

    An attempt counts where the verdict counts it: the record names its fact, and neither the
    question nor the prefill gives it away. The ranking is that of `RULE`; equal facts keep their
    order.
    """
    items = store.items_with_facts("forget")
    units = [unit for unit in store.units() if unit.split == "forget"]
    table = Table.read(store)
    attempts = {
        name: _attempts(table, [unit for unit in units if unit.role.startswith(name)])
        for name in ("original", "unlearned", "gold")
    }
    likelihood = _likelihood(store, units)
    found = [
        FactHistory(
            item=item,
            before=attempts["original"].get(item.record, ()),
            after=attempts["unlearned"][item.record],
            gold=attempts["gold"].get(item.record, ()),
            likelihood=likelihood.get(item.record, float("-inf")),
        )
        for item in items
        if item.record in attempts["unlearned"]
    ]
    return tuple(sorted(found, key=lambda fact: (-fact.returns, -fact.likelihood)))


def _attempts(table: Table, units: Sequence[Unit]) -> dict[str, tuple[ExampleAttempt, ...]]:
    found: dict[str, tuple[ExampleAttempt, ...]] = {}
    answers = [unit for unit in units if unit.kind == "answers"]
    for unit in sorted(answers, key=lambda unit: (unit.test != PLAIN, unit.test, unit.role)):
        leaks = table.column(FACT_LEAK, unit.role, "forget", unit.test)
        for record, answer in table.answers[unit].items():
            if record in leaks:
                attempt = ExampleAttempt(attack=unit.test, answer=answer, leaked=leaks[record] > 0)
                found[record] = (*found.get(record, ()), attempt)
    return found


def _likelihood(store: EvidenceStore, units: Sequence[Unit]) -> dict[str, float]:
    plain = Unit(role="unlearned", split="forget", kind="scores")
    if plain not in units:
        return {}
    return {
        score.record: mean
        for score in store.scores(plain)
        if (mean := mean_log_probability(score)) is not None
    }


def count(attempts: Sequence[Sequence[ExampleAttempt]]) -> Count | None:
    """Count the facts that came back in any attempt; None when nothing was asked.

    Args:
        attempts: For each fact the attempts of one model.
    """
    asked = [tries for tries in attempts if tries]
    if not asked:
        return None
    return Count(
        returned=sum(any(attempt.leaked for attempt in tries) for tries in asked),
        facts=len(asked),
        attempts=sum(len(tries) for tries in asked),
    )


def choose(ranked: Sequence[FactHistory], *, seed: int) -> tuple[Example, ...]:
    """Choose the examples of page one by `RULE`.

    Args:
        ranked: Facts, worst first.
        seed: Seed of the random example.
    """
    if not ranked:
        return ()
    middle = len(ranked) // 2
    rest = [i for i in range(1, len(ranked)) if i != middle]
    chosen = [("worst case", 0)]
    if middle:
        chosen.append(("median", middle))
    if rest:
        chosen.append(("random", random.Random(seed).choice(rest)))
    return tuple(Example(why=why, fact=ranked[i]) for why, i in chosen)
