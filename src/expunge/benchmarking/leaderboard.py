"""The leaderboard: one table a reader can trust, from the rows alone.

For each method the settings that `best` takes from its trials, averaged over seeds; the number of
settings tried and how many failed; original and golds beside; and every failure by name. A row
whose auditor failed its own test is worth nothing: it is never chosen. Where removal is requested,
a method that leaves the weights unchanged can be chosen only where there is no other.

Numbers that need a gold (forget quality, PrivLeak) are computed here, from two rows, and reduced
over seeds: to their mean, or of forget quality, a p-value, to the geometric mean.

Where no model knows the forget set by heart, a suite's own numbers tell what was forgotten:

    left = (value - floor) / (value of the original - floor)      0 nothing, 1 as much as before

A model need not recite an encyclopaedia to know what is in it. Its audit then finds nothing to
forget, and what was known is in the answers to the suite's probes alone. Both values are taken at
the far ends of their intervals, so that of the share is rather too wide: both models answered the
same questions.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import NamedTuple

from expunge.benchmarking.protocol import Protocol, read_protocol
from expunge.benchmarking.result import ERASED, KEPT, BenchResult, rows_of, upwards, weakest
from expunge.benchmarking.suites import SUITES
from expunge.benchmarking.suites.base import KnownSet
from expunge.evals.gates import interval_gate, missing
from expunge.evals.results import Gate, Ruling, Score
from expunge.metrics.muse import privleak
from expunge.metrics.outcomes import Axis
from expunge.metrics.statistics import Estimate
from expunge.metrics.tofu import forget_quality


def probe_gates(rows: Sequence[BenchResult], protocol: Protocol) -> list[BenchResult]:
    """Return rows with gates on how much of the original's knowledge is left, for such suites.

    Args:
        rows: Rows of a matrix; without that of the original they come back as they are.
        protocol: Which suite it is.
    """
    entry = None if protocol.suite is None else SUITES.get(protocol.suite.name)
    known = () if entry is None else entry.known
    original = next((row for row in rows if row.cell.kind == "original"), None)
    if not known or original is None:
        return list(rows)
    margin = protocol.shared.request.margins.residual
    return [
        replace(row, gates=(*_others(row), *(_left(row, original, each, margin) for each in known)))
        if row.status == "done"
        else row
        for row in rows
    ]


def _others(row: BenchResult) -> list[Gate]:
    """Return the gates of the audit, without those that the probes replace."""
    return [gate for gate in row.gates if gate.axis not in (Axis.FORGETTING, Axis.ROBUSTNESS)]


def _left(row: BenchResult, original: BenchResult, known: KnownSet, margin: float) -> Gate:
    name = f"{known.metric} {known.probe}"
    score = row.number(known.metric, known.probe)
    now, before = _estimate(score), _estimate(original.number(known.metric, known.probe))
    floor = known.floor
    if score is None or now is None or before is None or before.low <= floor:
        reason = f"the original is not surely above {floor:g} on {name}"
        return missing(known.axis, name, margin=margin, reason=reason)
    share = Estimate(
        (now.value - floor) / (before.value - floor),
        (now.low - floor) / (before.high - floor),
        (now.high - floor) / (before.low - floor),
    )
    return interval_gate(known.axis, name, share, margin=margin, n=score.n)


def _estimate(score: Score | None) -> Estimate | None:
    if score is None or score.value is None or score.low is None or score.high is None:
        return None
    return Estimate(score.value, score.low, score.high)


class ParetoPoint(NamedTuple):
    """A model between what was erased and what was kept, both in [0, 1]; higher is better."""

    erased: Estimate
    """The weakest of forgetting, privacy and robustness."""
    kept: Estimate
    """The weaker of utility and locality."""


def point(row: BenchResult) -> ParetoPoint | None:
    """Return the point of a row; None when one of the two numbers is missing."""
    scores = row.axis_scores()
    erased, kept = weakest(scores, ERASED), weakest(scores, KEPT)
    return None if erased is None or kept is None else ParetoPoint(erased, kept)


def invalid(row: BenchResult) -> bool:
    """Tell whether the auditor of a row failed its own test: its numbers decide nothing."""
    return row.ruling == Ruling.INVALID


def dominates(first: ParetoPoint, second: ParetoPoint) -> bool:
    """Tell whether a point is at least as good on both counts and better on one, by value."""
    a = (first.erased.value, first.kept.value)
    b = (second.erased.value, second.kept.value)
    return a != b and a[0] >= b[0] and a[1] >= b[1]


def surely_dominates(first: ParetoPoint, second: ParetoPoint) -> bool:
    """Tell whether a point is better on both counts even by the far ends of the intervals."""
    return (first.erased.low > second.erased.high and first.kept.low >= second.kept.high) or (
        first.erased.low >= second.erased.high and first.kept.low > second.kept.high
    )


def front(points: Sequence[ParetoPoint]) -> list[bool]:
    """Tell of each point whether no other one dominates it by value."""
    return [not any(dominates(other, each) for other in points) for each in points]


def near_front(points: Sequence[ParetoPoint]) -> list[bool]:
    """Tell of each point whether no other one is surely better: the data do not part them."""
    return [not any(surely_dominates(other, each) for other in points) for each in points]


def front_of(rows: Sequence[BenchResult], *, protocol: Protocol) -> tuple[BenchResult, ...]:
    """Return the rows that no other one beats, the most erased first."""
    placed = [
        (row, at)
        for row in rows
        if row.status == "done" and not invalid(row) and not protocol.covers(row.cell)
        if (at := point(row)) is not None
    ]
    kept = front([at for _, at in placed])
    found = [pair for pair, yes in zip(placed, kept, strict=True) if yes]
    return tuple(row for row, _ in sorted(found, key=lambda pair: -pair[1].erased.value))


def best(rows: Sequence[BenchResult], *, protocol: Protocol) -> BenchResult | None:
    """Return the row that represents a method, among those that were finished and judged.

    Of the models that keep at least the floor, the one that erased most; where none does, the one
    that keeps most, and the table shows that it is below the floor. Of equally weak ones the next
    weakest axis decides (many have 0 on one of them), then what is kept, then who was first.
    What was erased may not be known: where the original does not recite the forget set.

    Args:
        rows: Finished rows of one method, or of several.
        protocol: The floor, and which methods leave the weights unchanged.
    """
    found: list[tuple[BenchResult, float, list[float]]] = []
    for row in rows:
        scores = row.axis_scores()
        kept = weakest(scores, KEPT)
        if row.status == "done" and not invalid(row) and kept is not None:
            found.append((row, kept.value, upwards(scores, ERASED)))
    if not found:
        return None
    found = [each for each in found if not protocol.covers(each[0].cell)] or found
    within = [each for each in found if each[1] >= protocol.floor]
    if within:
        return max(within, key=lambda each: (each[2], each[1]))[0]
    return max(found, key=lambda each: (each[1], each[2]))[0]


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
