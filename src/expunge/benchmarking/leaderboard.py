"""The leaderboard: one table a reader can trust, from the rows alone.

For each method the settings that `choose.best` takes from its trials, averaged over seeds; the
number of settings tried and how many failed; original and golds beside; and every failure by name.
Numbers that need a gold (forget quality, PrivLeak) are computed here, from two rows, and reduced
over seeds: to their mean, or of forget quality, a p-value, to the geometric mean.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import NamedTuple

from expunge.benchmarking.axis_scores import ERASED, KEPT, upwards, weakest
from expunge.benchmarking.pareto import ParetoPoint, best, front, invalid, near_front
from expunge.benchmarking.probe_gates import probe_gates
from expunge.benchmarking.protocol import Protocol, read_protocol
from expunge.benchmarking.result import BenchResult, rows_of
from expunge.metrics.muse import privleak
from expunge.metrics.outcomes import Axis
from expunge.metrics.statistics import Estimate
from expunge.metrics.tofu import forget_quality

AUC = "auc-min-k-40"
QUALITY = "forget-quality"


class Related(NamedTuple):
    """A number that needs gold."""

    value: float
    n: int
    """Records of the model that it rests on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaderboardRow:
    """One model or method of the table."""

    name: str
    kind: str
    rows: tuple[BenchResult, ...]
    """The chosen settings, one row a seed; where every one is INVALID, one of these."""
    tried: int
    failed: int
    axes: dict[Axis, Estimate]
    weakest: Estimate | None
    at: ParetoPoint | None
    relative: dict[str, Related]
    """Numbers that need gold, over the seeds."""
    covers: bool = False
    """Removal was requested, and the weights are unchanged."""

    @property
    def invalid(self) -> bool:
        """Whether the auditor failed its own test in every run: no settings are chosen."""
        return any(invalid(row) for row in self.rows)


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaderboard:
    """Everything that the pages show."""

    protocol: Protocol
    lines: tuple[LeaderboardRow, ...]
    """Original, golds, then methods, the best weakest axis first; of equal ones the next axis.

    Below are methods that leave the weights unchanged although removal was requested, and last
    those whose rows are INVALID."""
    on_front: tuple[str, ...]
    near: tuple[str, ...]
    """Not on the front by value, but no other method is surely better."""
    failures: tuple[BenchResult, ...]
    invalid: tuple[BenchResult, ...]
    """Rows of methods whose auditor failed its own test."""
    notes: tuple[str, ...]


def leaderboard(matrix: Path) -> Leaderboard:
    """Read a matrix.

    Raises:
        InputError: There is no matrix, or a row of another version.
    """
    protocol = read_protocol(matrix)
    rows = probe_gates(rows_of(matrix), protocol)
    golds = [row for row in rows if row.cell.kind == "gold" and row.status == "done"]
    lines = [
        _line(row.cell.name, row.cell.kind, [row], (row,), golds)
        for kind in ("original", "gold")
        for row in rows
        if row.cell.kind == kind and row.status == "done"
    ]
    methods = [row for row in rows if row.cell.kind == "method"]
    found: list[LeaderboardRow] = []
    for name in dict.fromkeys(row.cell.name for row in methods):
        own = [row for row in methods if row.cell.name == name]
        shown = _shown(own, protocol)
        line = _line(name, "method", own, shown, golds)
        found.append(replace(line, covers=any(protocol.covers(row.cell) for row in shown)))
    found.sort(
        key=lambda line: (not line.invalid, not line.covers, upwards(line.axes)), reverse=True
    )
    placed = [
        (line.name, line.at)
        for line in found
        if line.at is not None and not line.covers and not line.invalid
    ]
    points = [at for _, at in placed]
    on_front = [name for (name, _), yes in zip(placed, front(points), strict=True) if yes]
    near = [name for (name, _), yes in zip(placed, near_front(points), strict=True) if yes]
    return Leaderboard(
        protocol=protocol,
        lines=(*lines, *found),
        on_front=tuple(on_front),
        near=tuple(name for name in near if name not in on_front),
        failures=tuple(row for row in rows if row.status == "failed"),
        invalid=tuple(row for row in methods if invalid(row)),
        notes=tuple(dict.fromkeys(note for row in rows for note in row.notes)),
    )


def _shown(own: Sequence[BenchResult], protocol: Protocol) -> tuple[BenchResult, ...]:
    """Return the rows of a method that are shown: those of the chosen settings, one a seed.

    Rows that are INVALID are not among them, unless there are no others: then one of these.
    """
    seeds = Counter(row.cell.seed for row in own)
    first = max(sorted(seeds), key=seeds.__getitem__)  # that of the trials
    trials = [row for row in own if row.cell.seed == first]
    chosen = best(trials, protocol=protocol)
    if chosen is None:
        return tuple(row for row in trials if invalid(row))[:1]
    return tuple(
        row
        for row in own
        if row.status == "done"
        and not invalid(row)
        and dict(row.cell.values) == dict(chosen.cell.values)
    )


def _line(
    name: str,
    kind: str,
    own: Sequence[BenchResult],
    chosen: tuple[BenchResult, ...],
    golds: Sequence[BenchResult],
) -> LeaderboardRow:
    axes = over_seeds([row.axis_scores() for row in chosen])
    return LeaderboardRow(
        name=name,
        kind=kind,
        rows=chosen,
        tried=len({str(sorted(row.cell.values.items())) for row in own}),
        failed=sum(row.status == "failed" for row in own),
        axes=axes,
        weakest=weakest(axes),
        at=_place(axes),
        relative=reduced([relative(row, golds) for row in chosen]),
    )


def over_seeds(by_seed: Sequence[dict[Axis, Estimate]]) -> dict[Axis, Estimate]:
    """Return the mean of each axis over seeds, with the widest of their intervals' ends."""
    found: dict[Axis, Estimate] = {}
    for axis in Axis:
        each = [scores[axis] for scores in by_seed if axis in scores]
        if each and len(each) == len(by_seed):
            found[axis] = Estimate(
                fmean(e.value for e in each), min(e.low for e in each), max(e.high for e in each)
            )
    return found


def _place(axes: dict[Axis, Estimate]) -> ParetoPoint | None:
    erased, kept = weakest(axes, ERASED), weakest(axes, KEPT)
    return None if erased is None or kept is None else ParetoPoint(erased, kept)


def relative(row: BenchResult, golds: Sequence[BenchResult]) -> dict[str, Related]:
    """Return what needs a gold beside the model: KS distance, forget quality, PrivLeak in percent.

    Against the first gold that is not the model itself.
    """
    others = [gold for gold in golds if gold.cell.name != row.cell.name]
    if not others:
        return {}
    gold, found = others[0], dict[str, Related]()
    ours, theirs = row.columns.get("truth-ratio"), gold.columns.get("truth-ratio")
    if ours and theirs:
        quality = forget_quality(list(ours.values()), list(theirs.values()))
        found["ks-distance"] = Related(quality.distance, quality.n)
        found[QUALITY] = Related(quality.p, quality.n)
    for score in row.numbers:
        other = gold.number(score.metric, score.split)
        if score.metric != AUC or other is None or score.value is None or other.value is None:
            continue
        if "retain" not in score.split and other.value < 1:
            found["privleak"] = Related(privleak(1 - score.value, 1 - other.value), score.n)
    return found


def reduced(each: Sequence[dict[str, Related]]) -> dict[str, Related]:
    """Return each number that needs gold over seeds, with the fewest records of one of them.

    The mean; of forget quality the geometric one, since p-values span orders of magnitude and the
    luckiest seed alone would decide any other.
    """
    found: dict[str, Related] = {}
    for name in dict.fromkeys(name for one in each for name in one):
        own = [one[name] for one in each if name in one]
        values = [related.value for related in own]
        value = fmean(values)
        if name == QUALITY:
            value = geometric_mean(values) if min(values) > 0 else 0.0
        found[name] = Related(value, min(related.n for related in own))
    return found
