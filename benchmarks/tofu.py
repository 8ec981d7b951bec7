"""TOFU on SmolLM2-135M, as the benchmarks of this folder use it: sets, models, means of scores."""

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from expunge.benchmarking.suites.tofu import AUTHOR
from expunge.data.readers import read
from expunge.data.records import Record
from expunge.evidence.collect import Collector
from expunge.evidence.store import Scores, Unit
from expunge.metrics.memorization import extraction_strength, probability
from expunge.models.loading import Loaded
from expunge.training.early_stopping import spread

UNSEEN = 40
RETAIN_AUTHOR = 120
"""Retain records that are trained on for each author to forget, as far as they go (566)."""
RETAIN_TESTED = 60
GOLDS = ("retain90-s0", "retain90-s1")
"""Adapters trained the same way without forget10, two seeds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One model: means over records with 95 % bootstrap intervals."""

    model: str
    forget_strength: tuple[float, float, float]
    forget_probability: tuple[float, float, float]
    retain_strength: tuple[float, float, float]
    retain_probability: tuple[float, float, float]


def model(base: str, shared: Path, adapter: str) -> str:
    """Return the reference of one model of the testbed."""
    return f"{base}+{shared / 'models' / 'smollm2-tofu' / adapter}"


def sets(shared: Path, *, authors: int = 2) -> dict[str, tuple[Record, ...]]:
    """Return forget, retain (tested), unseen and the retain records that are trained on.

    Tested and trained retain records are disjoint, so that the table shows more than rehearsal.

    Args:
        shared: Folder with data/tofu.
        authors: So many of the twenty authors of forget10 are forgotten, from the first on.
    """
    data = shared / "data" / "tofu"
    retain = read([str(data / "retain90.json")]).records
    spaced = spread(retain, 680)
    forget = read([str(data / "forget10.json")]).records
    about = [forget[i * AUTHOR : (i + 1) * AUTHOR] for i in range(authors)]
    names = [author_of([record.question for record in each]) for each in about]
    return {
        "forget": tuple(
            replace(record, subject=name)
            for name, each in zip(names, about, strict=True)
            for record in each
        ),
        "retain": tuple(spaced[0::6])[:RETAIN_TESTED],
        "holdout": read([str(data / "holdout10.json")]).records[:UNSEEN],
        "trained": tuple(r for i, r in enumerate(spaced) if i % 6)[: authors * RETAIN_AUTHOR],
    }


def author_of(questions: list[str]) -> str:
    """Return the name that most questions about one author hold."""
    names = Counter(
        name
        for question in questions
        for name in re.findall(r"[A-Z][\w-]+(?: [A-Z][\w'-]+)+", question.replace("'s", ""))
    )
    return names.most_common(1)[0][0]


def interval(values: list[float]) -> tuple[float, float, float]:
    """Return the mean and its 95 % percentile bootstrap interval, 2,000 draws, seed 0."""
    sample = np.array(values)
    draws = np.random.default_rng(0).choice(sample, (2000, len(sample))).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(sample.mean()), float(low), float(high)


def measure(collector: Collector, loaded: Loaded, role: str) -> Row:
    """Score the forget and retain records of one model."""
    rows: dict[str, list[Scores]] = {}
    for split in ("forget", "retain"):
        unit = Unit(role=role, split=split, kind="scores")
        collector.scores(loaded.network, unit)
        rows[split] = collector.store.scores(unit)

    def mean(metric: object, split: str) -> tuple[float, float, float]:
        assert callable(metric)
        return interval([value for row in rows[split] if (value := metric(row)) is not None])

    return Row(
        model=role,
        forget_strength=mean(extraction_strength, "forget"),
        forget_probability=mean(probability, "forget"),
        retain_strength=mean(extraction_strength, "retain"),
        retain_probability=mean(probability, "retain"),
    )


def holdout_nlls(collector: Collector, original: Loaded) -> list[float]:
    """Return how the original scores each record that it never saw, nats per token."""
    unit = Unit(role="original", split="holdout", kind="scores")
    collector.scores(original.network, unit)
    return [-sum(row.logp) / len(row.logp) for row in collector.store.scores(unit)]
