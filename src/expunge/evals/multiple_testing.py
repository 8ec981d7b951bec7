"""Many attacks at once: adjusted p-values by relabelling, so that false alarms stay at 5 %.

Null hypothesis: the judged model is one more gold, so its column and theirs can change places
fact by fact. Every attack is relabelled together, which keeps their dependence. The largest
studentised excess of a relabelled battery is what chance brings; step-down after Westfall and Young
(1993), exact whatever the number and the dependence of the attacks. Without gold the labels forget
and control change places between facts.

    t_a = sum_c d_ac / sqrt(sum_c mean_k d_ack^2)
    d_ack: excess of model k over the others, summed over the facts of cluster c
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from expunge.metrics.statistics import FEW_CLUSTERS

Array = NDArray[np.float64]

RELABELLINGS = 2000

ENOUGH = 0.01
"""What the smallest p-value must reach that whole clusters can give: a battery adjusts it."""

Column = Mapping[str, float]


class PairedUnits(NamedTuple):
    """One test: the judged model's value per fact, and that of every gold."""

    judged: Column
    golds: tuple[Column, ...]

    @property
    def records(self) -> tuple[str, ...]:
        """The facts that all of them have."""
        return tuple(n for n in self.judged if all(n in gold for gold in self.golds))


class UnpairedUnits(NamedTuple):
    """One test without gold: the judged model's value per fact, and per control item."""

    judged: Column
    control: Column


def paired_units(clusters: Mapping[str, str], golds: int) -> dict[str, str]:
    """Return what changes places as a whole: the cluster of each fact, or, with few, the fact."""
    return _units(clusters, float(1 + max(1, golds)) ** -len(set(clusters.values())))


def unpaired_units(clusters: Mapping[str, str], facts: Collection[str]) -> dict[str, str]:
    """Return the same without gold; `clusters` names those of facts and control items."""
    theirs = {clusters[name] for name in facts}
    return _units(clusters, 1 / comb(len(set(clusters.values())), len(theirs)))


def _asked(clusters: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Leave out what no test asks for: labels dealt there would be missing among the others."""
    asked = set(names)
    return {name: cluster for name, cluster in clusters.items() if name in asked}


def _units(clusters: Mapping[str, str], least: float) -> dict[str, str]:
    """Keep clusters whole unless so few could hardly tell any attack, `least` their smallest p."""
    few = len(set(clusters.values())) < FEW_CLUSTERS or least > ENOUGH
    return {name: name if few else cluster for name, cluster in clusters.items()}


def adjusted_paired(
    tests: Sequence[PairedUnits], clusters: Mapping[str, str], *, seed: int
) -> list[float]:
    """Return the adjusted p-value of each test, for "the judged model gives away more than gold".

    Args:
        tests: All tests of the battery; the same golds in each.
        clusters: The subject of each fact; those that no test asks for change nothing.
        seed: Of the relabellings.
    """
    clusters = _asked(clusters, (name for test in tests for name in test.records))
    golds = min((len(test.golds) for test in tests), default=0)
    units = paired_units(clusters, golds)
    places = {name: index for index, name in enumerate(sorted(set(units.values())))}
    models = 1 + golds
    excess = np.zeros((len(tests), models, len(places)))
    for row, test in enumerate(tests):
        same = test.golds[:golds]
        for name in PairedUnits(test.judged, same).records:
            values = np.array([test.judged[name], *(gold[name] for gold in same)])
            others = (values.sum() - values) / (models - 1)
            excess[row, :, places[units[name]]] += values - others
    size = np.sqrt((excess**2).mean(axis=1).sum(axis=1))
    rng = np.random.default_rng([seed, 3])
    labels = rng.integers(models, size=(RELABELLINGS, len(places)))
    labels[0] = 0  # as it is
    drawn = np.zeros((RELABELLINGS, len(tests)))
    for model in range(models):
        drawn += (labels == model) @ excess[:, model].T
    return _step_down(_scaled(drawn, size))


def adjusted_unpaired(
    tests: Sequence[UnpairedUnits], clusters: Mapping[str, str], *, seed: int
) -> list[float]:
    """Return the same without gold; `clusters` names the subject of facts and control items."""
    asked = (name for test in tests for name in (*test.judged, *test.control))
    clusters = _asked(clusters, asked)
    known = {name for test in tests for name in test.judged}
    units = unpaired_units(clusters, known)
    names = sorted(clusters)
    places = {name: index for index, name in enumerate(sorted(set(units.values())))}
    own = np.array([places[units[name]] for name in names])
    values = np.zeros((len(tests), len(names)))
    there = np.zeros((len(tests), len(names)))
    for row, test in enumerate(tests):
        for column, name in enumerate(names):
            value = test.judged.get(name, test.control.get(name))
            if value is not None:
                values[row, column], there[row, column] = value, 1.0
    is_fact = np.zeros(len(places), dtype=bool)
    for name in known:
        is_fact[places[units[name]]] = True
    rng = np.random.default_rng([seed, 4])
    labels = np.array([is_fact, *(rng.permutation(is_fact) for _ in range(RELABELLINGS - 1))])
    facts = labels[:, own].astype(np.float64)
    inside, outside = facts @ there.T, (1 - facts) @ there.T
    gap = facts @ values.T / np.maximum(inside, 1) - (1 - facts) @ values.T / np.maximum(outside, 1)
    centre = values.sum(axis=1, keepdims=True) / np.maximum(there.sum(axis=1, keepdims=True), 1)
    spread = np.sqrt((there * (values - centre) ** 2).sum(axis=1) / np.maximum(there.sum(1), 1))
    usable = (inside > 0) & (outside > 0)
    noise = spread * np.sqrt(1 / np.maximum(inside, 1) + 1 / np.maximum(outside, 1))
    return _step_down(np.where(usable, _scaled(gap, noise), 0.0))


def least_paired(clusters: Mapping[str, str], golds: int) -> float:
    """Return the smallest p-value that so few facts can give; above 0.05 they conclude nothing."""
    units = len(set(paired_units(clusters, golds).values()))
    return max(float(1 + max(1, golds)) ** -units, 1 / RELABELLINGS)


def least_unpaired(clusters: Mapping[str, str], facts: Collection[str]) -> float:
    """Return the same without gold; see `unpaired_units`."""
    units = unpaired_units(clusters, facts)
    theirs = {units[name] for name in facts}
    return max(1 / comb(len(set(units.values())), len(theirs)), 1 / RELABELLINGS)


def _scaled(sums: Array, size: Array) -> Array:
    return np.where(size > 0, sums / np.where(size > 0, size, 1.0), 0.0)


def _step_down(drawn: Array) -> list[float]:
    """Return step-down adjusted p-values, [draws, tests]; the first draw is the observed one."""
    observed = drawn[0]
    order = np.argsort(-observed, kind="stable")
    # The largest statistic among this test and all less extreme ones, draw by draw.
    reach = np.maximum.accumulate(drawn[:, order[::-1]], axis=1)[:, ::-1]
    shares = (reach >= observed[order] - 1e-12).mean(axis=0)
    adjusted = np.maximum.accumulate(shares)
    found = np.empty(len(order))
    found[order] = adjusted
    return [float(value) for value in found]
