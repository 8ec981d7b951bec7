"""The outputs of one model on the probes of a suite, and the means that most suites share."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from expunge.evals.results import Score
from expunge.evidence.store import Answer, Choices, Item, Scores
from expunge.metrics.multiple_choice import choice_accuracy, option_probability
from expunge.metrics.statistics import Estimate, Sample, auc_interval, mean_interval
from expunge.metrics.tofu import truth_ratio

Column = dict[str, float]
"""Values by record."""

SUBJECT = "unlearned"
"""The role of the model that a row is about."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeOutputs:
    """Evidence by probe and record."""

    items: Mapping[str, Mapping[str, Item]]
    scores: Mapping[str, Mapping[str, Scores]]
    answers: Mapping[str, Mapping[str, Answer]]
    options: Mapping[str, Mapping[str, Choices]]
    samples: Mapping[str, Mapping[str, tuple[str, ...]]] = field(
        default_factory=dict[str, Mapping[str, tuple[str, ...]]]
    )
    """Drawn answers, of probes that draw them."""

    def scored(self, probe: str, of: Callable[[Scores], float | None]) -> Column:
        """Return a metric of token scores by record; records that it drops are left out."""
        return _kept((name, of(row)) for name, row in self.scores[probe].items())

    def answered(self, probe: str, of: Callable[[Answer, Item], float | None]) -> Column:
        """Return a metric of greedy answers by record."""
        items = self.items[probe]
        return _kept((name, of(row, items[name])) for name, row in self.answers[probe].items())

    def drawn(self, probe: str, of: Callable[[Sequence[str]], float | None]) -> Column:
        """Return a metric of the drawn answers to each record."""
        return _kept((name, of(texts)) for name, texts in self.samples[probe].items())

    def weighed(self, probe: str, of: Callable[[Choices], float | None]) -> Column:
        """Return a metric of candidates by record."""
        return _kept((name, of(row)) for name, row in self.options[probe].items())

    def sample(self, probe: str, column: Column, *, stream: int = 0) -> Sample:
        """Return a column with its clusters: the subjects of its records, where they have any."""
        items = self.items[probe]
        clusters = tuple(items[name].subject or name for name in column)
        return Sample(np.array(list(column.values())), clusters, stream)

    def mean(self, metric: str, probe: str, column: Column, *, higher: bool | None) -> Score:
        """Return the mean of a column with its cluster-bootstrap interval.

        Args:
            metric: Name of the metric.
            probe: Name of the probe.
            column: Values by record.
            higher: Whether more is better of an unlearned model; None when gold is the aim.
        """
        if not column:
            return absent(metric, probe, "no record has what it needs", higher=higher)
        sample = self.sample(probe, column)
        return number(metric, probe, mean_interval(sample, seed=0), n=len(column), higher=higher)


def _kept(pairs: Iterable[tuple[str, float | None]]) -> Column:
    return {name: value for name, value in pairs if value is not None}


def number(metric: str, probe: str, found: Estimate, *, n: int, higher: bool | None) -> Score:
    """Return one number of a benchmark's table."""
    return Score(
        metric=metric,
        role=SUBJECT,
        split=probe,
        attack="plain",
        value=found.value,
        low=found.low,
        high=found.high,
        n=n,
        higher_is_better=higher,
    )


def exact(metric: str, probe: str, value: float, *, n: int, higher: bool | None) -> Score:
    """Return a number that has no interval of its own, such as a harmonic mean of others."""
    return Score(
        metric=metric,
        role=SUBJECT,
        split=probe,
        attack="plain",
        value=value,
        n=n,
        higher_is_better=higher,
    )


def absent(metric: str, probe: str, reason: str, *, higher: bool | None = None) -> Score:
    """Return a number that is not computable, with the reason."""
    return Score(
        metric=metric,
        role=SUBJECT,
        split=probe,
        attack="plain",
        value=None,
        higher_is_better=higher,
        reason=reason,
    )


def membership(
    outputs: ProbeOutputs,
    metric: str,
    members: str,
    others: str,
    of: Callable[[Scores], float | None],
) -> Score:
    """Return the AUC of a membership score between two probes; gold's is the aim."""
    sides = {probe: outputs.scored(probe, of) for probe in (members, others)}
    if not all(sides.values()):
        return absent(metric, members, f"no scores of {members} or {others}")
    inside = outputs.sample(members, sides[members])
    outside = outputs.sample(others, sides[others], stream=1)  # drawn independently
    found = auc_interval(inside, outside, seed=0)
    return number(metric, members, found, n=min(map(len, sides.values())), higher=None)


def means(row: Choices) -> tuple[float, list[float]]:
    """Return the mean log-probability per token of the right candidate, and of each false one."""
    each = [p / n for p, n in zip(row.logp, row.tokens, strict=True)]
    return each[row.correct], each[: row.correct] + each[row.correct + 1 :]


def ratio(row: Choices) -> float | None:
    """Return the truth ratio of a record, geometric over its false answers."""
    return truth_ratio(*means(row))


def share(row: Choices) -> float | None:
    """Return the probability of the right answer among all candidates, by mean log-probability."""
    return option_probability(*means(row))


def right(row: Choices) -> float | None:
    """Return whether the right candidate is the likeliest, by sums of log-probabilities."""
    return choice_accuracy(row.logp, row.correct)


def right_by_length(row: Choices) -> float | None:
    """Return whether the right candidate is the likeliest per token."""
    own, others = means(row)
    return choice_accuracy([own, *others], 0)
