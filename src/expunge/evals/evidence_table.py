"""The evidence folder in memory: one column of numbers per metric, model, set and attack."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from expunge.evidence.store import (
    PLAIN,
    ROWS,
    Answer,
    Choices,
    EvidenceStore,
    FoundSpan,
    Item,
    Layers,
    Row,
    Scores,
    Unit,
)
from expunge.metrics.base import LeakMetric, RecordMetric, ScoreMetric
from expunge.metrics.fact_leak import FactType, fact_type
from expunge.metrics.fact_matchers import Background
from expunge.metrics.key_spans import SpanProbability, span_probability
from expunge.metrics.statistics import Sample

GOLD = "gold-"
"""How the roles of golds begin."""

MOST_FACTS = 200
"""Facts of other sets that are read, evenly spaced."""

Column = dict[str, float]
"""One number per record; records for which the metric is undefined are absent."""


RowT = TypeVar("RowT", bound=Row)


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """All items and rows of an evidence folder."""

    items: dict[str, dict[str, Item]]
    """Split to record to item, in the order written."""
    scores: dict[Unit, dict[str, Scores]]
    answers: dict[Unit, dict[str, Answer]]
    choices: dict[Unit, dict[str, Choices]] = field(default_factory=dict[Unit, dict[str, Choices]])
    layers: dict[Unit, dict[str, Layers]] = field(default_factory=dict[Unit, dict[str, Layers]])
    spans: dict[str, list[FoundSpan]] = field(default_factory=dict[str, list[FoundSpan]])
    """Forget record to where its facts stand among the scored tokens."""
    known: dict[tuple[str, Unit], Column] = field(default_factory=dict, compare=False, repr=False)
    """Columns computed so far, by metric and unit: the same column serves many gates."""
    facts: dict[str, tuple[tuple[str, FactType], ...]] = field(
        default_factory=dict[str, tuple[tuple[str, FactType], ...]], compare=False, repr=False
    )
    """Facts of all other sets with their forms, by set; filled when they are first read."""

    @classmethod
    def read(cls, store: EvidenceStore) -> "Table":
        """Read every unit of the store."""
        items: dict[str, dict[str, Item]] = {}
        for item in store.items_with_facts():
            items.setdefault(item.split, {})[item.record] = item
        spans: dict[str, list[FoundSpan]] = {}
        for span in store.key_spans():
            spans.setdefault(span.record, []).append(span)
        return cls(
            items=items,
            scores=_rows(store, Scores),
            answers=_rows(store, Answer),
            choices=_rows(store, Choices),
            layers=_rows(store, Layers),
            spans=spans,
        )

    def without(self, split: str, records: Collection[str]) -> "Table":
        """Return the table without some records of a set."""
        kept = {name: item for name, item in self.items[split].items() if name not in records}

        def rest(units: dict[Unit, dict[str, RowT]]) -> dict[Unit, dict[str, RowT]]:
            return {
                unit: {name: row for name, row in rows.items() if name not in records}
                if unit.split == split
                else rows
                for unit, rows in units.items()
            }

        return replace(
            self,
            items={**self.items, split: kept},
            scores=rest(self.scores),
            answers=rest(self.answers),
            choices=rest(self.choices),
            layers=rest(self.layers),
            known={},
            facts={},
        )

    def planted(self, role: str, units: dict[Unit, Unit]) -> "Table":
        """Return a table with a further model `role`, whose units are copies of others' units.

        Args:
            role: Name of the model that is added.
            units: The new unit to the unit that it repeats; absent ones are left out.
        """
        assert all(unit.role == role for unit in units)
        scores = {new: self.scores[old] for new, old in units.items() if old in self.scores}
        answers = {new: self.answers[old] for new, old in units.items() if old in self.answers}
        return replace(
            self,
            scores={**self.scores, **scores},
            answers={**self.answers, **answers},
            # What the others said does not change, unless the new one is a gold they are read by.
            known={}
            if role.startswith(GOLD)
            else {key: column for key, column in self.known.items() if key[1].role != role},
        )

    def rows(self, metric: RecordMetric, role: str, split: str, attack: str = PLAIN) -> int:
        """Return how many records have the evidence that the metric reads."""
        unit = _unit(metric, role, split, attack)
        return len((self.scores if unit.kind == "scores" else self.answers).get(unit, {}))

    def scored(self, role: str, split: str, attack: str = PLAIN) -> Mapping[str, Scores]:
        """Return the rows of scores of one model on one set; empty when not collected."""
        unit = Unit(role=role, split=split, attack=attack, kind="scores")
        return self.scores.get(unit, {})

    def column(self, metric: RecordMetric, role: str, split: str, attack: str = PLAIN) -> Column:
        """Return the metric on every record where it is defined; empty when not collected."""
        unit = _unit(metric, role, split, attack)
        if (metric.id, unit) not in self.known:
            self.known[metric.id, unit] = self._compute(metric, unit)
        return self.known[metric.id, unit]

    def _compute(self, metric: RecordMetric, unit: Unit) -> Column:
        items = self.items.get(unit.split, {})
        if isinstance(metric, ScoreMetric):
            rows = self.scores.get(unit, {})
            values = {name: metric.of(row) for name, row in rows.items() if name in items}
        elif isinstance(metric, LeakMetric):
            answers, golds = self.answers.get(unit, {}), self._other_golds(unit)
            values = {
                name: metric.of(row, items[name], self._background(golds, items[name]))
                for name, row in answers.items()
                if name in items
            }
        else:
            answers = self.answers.get(unit, {})
            values = {
                name: metric.of(row, items[name]) for name, row in answers.items() if name in items
            }
        return {name: value for name, value in values.items() if value is not None}

    def _other_golds(self, unit: Unit) -> list[Mapping[str, Answer]]:
        """Return what golds answered to the same test; a gold is held against the other golds."""
        return [
            self.answers[other]
            for other in self.answers
            if other.role.startswith(GOLD)
            and other.role != unit.role
            and other == replace(unit, role=other.role)
        ]

    def _background(self, golds: Sequence[Mapping[str, Answer]], item: Item) -> Background:
        """Return what golds answered to the same test, and facts of records that are kept.

        Facts of the forget set are no background: a model that mixes them up has not forgotten
        them.
        """
        said = (gold.get(item.record) for gold in golds)
        return Background(
            gold=tuple(answer.given + answer.text for answer in said if answer is not None),
            others=self._kept_facts(item),
        )

    def _kept_facts(self, item: Item) -> tuple[str, ...]:
        """Return facts of other sets, those of the same form where there are any.

        The fact of a record that names none is its answer. Unstated facts are the target's own, so
        they are no background of what is forgotten.
        """
        if item.split not in self.facts:
            pool = [
                other.key_answers[0] if other.key_answers else other.answer
                for split, group in self.items.items()
                if split not in (item.split, "generic", "unstated")
                for other in group.values()
            ]
            step = max(1, -(-len(pool) // MOST_FACTS))
            self.facts[item.split] = tuple((fact, fact_type(fact)) for fact in pool[::step])
        facts = self.facts[item.split]
        wanted = {fact_type(fact, item.question) for fact in item.key_answers}
        same = tuple(fact for fact, form in facts if form in wanted)
        return same or tuple(fact for fact, _ in facts)

    def span_probabilities(self, role: str, attack: str = PLAIN) -> dict[str, SpanProbability]:
        """Return how likely a model is to say the facts of forget records, after each prefix.

        Records without a span, and models that were not scored, are absent.
        """
        found: dict[str, SpanProbability] = {}
        for name, row in self.scored(role, "forget", attack).items():
            spans = self.spans.get(name, [])
            mask = [any(s.start <= t < s.stop for s in spans) for t in range(len(row.logp))]
            if (probability := span_probability(row.logp, mask)) is not None:
                found[name] = probability
        return found

    def clusters(self, split: str, records: Iterable[str]) -> tuple[str, ...]:
        """Return the subject of each record; a record without subject is its own cluster."""
        items = self.items.get(split, {})
        return tuple(
            f"subject:{subject}" if (subject := items[name].subject) else f"record:{name}"
            for name in records
        )

    def sample(
        self, column: Column, split: str, *, records: Sequence[str] | None = None, stream: int = 0
    ) -> Sample:
        """Return the column as arrays, on `records` or on all of its own."""
        names = tuple(column) if records is None else tuple(records)
        values = np.array([column[name] for name in names], dtype=np.float64)
        return Sample(values, self.clusters(split, names), stream)


def _rows(store: EvidenceStore, kind: type[RowT]) -> dict[Unit, dict[str, RowT]]:
    return {
        unit: {row.record: row for row in store.rows(unit) if isinstance(row, kind)}
        for unit in store.units()
        if ROWS[unit.kind] is kind
    }


def _unit(metric: RecordMetric, role: str, split: str, attack: str) -> Unit:
    kind = "scores" if isinstance(metric, ScoreMetric) else "answers"
    return Unit.under(attack, role=role, split=split, kind=kind)


def common(*columns: Column) -> tuple[str, ...]:
    """Return the records that all columns have, in the order of the first."""
    first, *others = columns
    return tuple(name for name in first if all(name in other for other in others))


def mean_column(columns: Sequence[Column]) -> Column:
    """Return the mean over models, on the records that all of them have."""
    if not columns:
        return {}
    return {
        name: sum(column[name] for column in columns) / len(columns) for name in common(*columns)
    }
