"""What the plots show: numbers picked from results, evidence and facts, drawn by `plots`.

Relearning curves: what fine-tuning brings back step by step, held against gold.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from expunge.evals.evidence_table import Column, Table, common
from expunge.evals.results import Results, Score
from expunge.evidence.store import PLAIN, EvidenceStore
from expunge.metrics.base import EXTRACTION_STRENGTH, KEY_FACT, PROBABILITY
from expunge.metrics.statistics import mean_interval
from expunge.reporting import plots
from expunge.reporting.glossary import attack_title, metric_title
from expunge.reporting.plots import FrontierPoint, Kind, PlottedInterval, SetChange
from expunge.reporting.schema import RunFacts

if TYPE_CHECKING:
    from expunge.reporting.redaction import Redactor
import re

from expunge.reporting.plots import Curve, CurveAt, Panel, relearning_curves

if TYPE_CHECKING:
    from expunge.evals.recovery import AttackFinding, AttackRecovery


def headline(results: Results) -> str:
    """Return the metric that the ladder and the frontier show: key facts where facts are named."""
    scored = find(results, KEY_FACT.id, role="unlearned", split="forget")
    return KEY_FACT.id if scored else EXTRACTION_STRENGTH.id


def find(
    results: Results, metric: str, *, role: str, split: str, attack: str = PLAIN
) -> Score | None:
    """Return the score of this metric, model, set and attack, if it has a value."""
    for score in results.scores:
        key = (score.metric, score.role, score.split, score.attack)
        if key == (metric, role, split, attack) and score.value is not None:
            return score
    return None


def anchor(results: Results, metric: str, *, attack: str) -> Score | None:
    """Return what a model that never saw the data scores under the same attack.

    The first gold model where there is one, else fabricated records, on which the model before
    answered, or, where it was not asked, the model after.
    """
    if any(score.role.startswith("gold") for score in results.scores):
        return find(results, metric, role="gold-0", split="forget", attack=attack)
    roles = ("original", "unlearned") if metric == KEY_FACT.id else ("unlearned",)
    found = (find(results, metric, role=role, split="control", attack=attack) for role in roles)
    return next((score for score in found if score), None)


def attacks(results: Results, metric: str) -> tuple[Score, ...]:
    """Return the unlearned model's scores under each attack, the strongest attack first."""
    found = [
        score
        for score in results.scores
        if (score.metric, score.role, score.split) == (metric, "unlearned", "forget")
        and score.attack != PLAIN
        and score.value is not None
    ]
    return tuple(sorted(found, key=lambda score: (-(score.value or 0), -(score.high or 0))))


def ladder(results: Results) -> str | None:
    """Draw the recovery ladder; None when the original or the unlearned model has no score."""
    metric = headline(results)
    rungs: list[plots.RecoveryBar] = []
    for label, role in (
        ("Before, plain", "original"),
        ("After, plain", "unlearned"),
    ):
        score = find(results, metric, role=role, split="forget")
        if score is None:
            return None
        kind: Kind = "original" if role == "original" else "unlearned"
        gold = anchor(results, metric, attack=PLAIN) if role == "unlearned" else None
        rungs.append(
            plots.RecoveryBar(label=label, kind=kind, estimate=_estimate(score), gold=_maybe(gold))
        )
    for i, score in enumerate(attacks(results, metric)):
        rungs.append(
            plots.RecoveryBar(
                label=attack_title(score.attack),
                kind="unlearned" if i else "worst",
                estimate=_estimate(score),
                gold=_maybe(anchor(results, metric, attack=score.attack)),
            )
        )
    return plots.recovery_ladder(tuple(rungs), measure=_measure(metric))


def _measure(metric: str) -> str:
    facts = metric == KEY_FACT.id
    return "share of the facts that came back" if facts else metric_title(metric).lower()


def frontier(results: Results) -> str | None:
    """Draw forgetting against utility; None when either was not measured on the two models."""
    kept = next(
        (
            metric.id
            for metric in (KEY_FACT, PROBABILITY, EXTRACTION_STRENGTH)
            if find(results, metric.id, role="unlearned", split="retain")
        ),
        None,
    )
    if kept is None:
        return None
    metric = headline(results)
    roles = dict.fromkeys(s.role for s in results.scores if not s.role.startswith("ladder"))
    places: list[FrontierPoint] = []
    for role in roles:
        x = find(results, kept, role=role, split="retain")
        y = find(results, metric, role=role, split="forget")
        if x is None or y is None:
            continue
        known = _estimate(y)
        forgotten = PlottedInterval(value=1 - known.value, low=1 - known.high, high=1 - known.low)
        kind: Kind = "gold" if role.startswith("gold") else "unlearned"
        places.append(
            FrontierPoint(
                label=role,
                kind="original" if role == "original" else kind,
                kept=_estimate(x),
                forgotten=forgotten,
            )
        )
    if len(places) < 2:
        return None
    words = "share of retained questions answered"
    if kept != KEY_FACT.id:
        words = f"{metric_title(kept).lower()} of retained records"
    return plots.frontier(tuple(places), kept=words, forgotten="share forgotten")


def collateral(store: EvidenceStore, *, redactor: "Redactor") -> str | None:
    """Draw what happened to neighbours by relation, then retained records, then general text.

    One measure for all rows: the probability of the right text per token. None without evidence.
    """
    table = Table.read(store)
    seed = store.context().seed
    bins: list[tuple[str, str, Sequence[str]]] = []
    near = table.items.get("neighbours", {})
    for relation in sorted({item.relation or "" for item in near.values()}):
        records = [name for name, item in near.items() if (item.relation or "") == relation]
        label = redactor.label(relation) if relation else "other neighbours"
        bins.append((label, "neighbours", records))
    bins += [
        (label, split, list(table.items.get(split, {})))
        for label, split in (("retained records", "retain"), ("general text", "generic"))
    ]
    changes: list[SetChange] = []
    for label, split, records in bins:
        before, after = (
            _only(table.column(PROBABILITY, role, split), records)
            for role in ("original", "unlearned")
        )
        names = common(before, after)
        if names:
            low, high = (_interval(table, column, split, names, seed) for column in (before, after))
            changes.append(SetChange(label=f"{label} ({len(names)})", before=low, after=high))
    if not changes:
        return None
    return plots.collateral_map(tuple(changes), measure="probability of the right text, per token")


def training(facts: RunFacts) -> str | None:
    """Draw the training curve; None for a run that only audited."""
    if facts.train is None or not facts.train.curve:
        return None
    return plots.training_dynamics(facts.train.curve, stopped=facts.train.stopped)


def _only(column: Column, records: Sequence[str]) -> Column:
    return {name: column[name] for name in records if name in column}


def _interval(
    table: Table, column: Column, split: str, names: Sequence[str], seed: int
) -> PlottedInterval:
    value, low, high = mean_interval(table.sample(column, split, records=names), seed=seed)
    return PlottedInterval(value=value, low=low, high=high)


def _maybe(score: Score | None) -> PlottedInterval | None:
    return None if score is None else _estimate(score)


def _estimate(score: Score) -> PlottedInterval:
    assert score.value is not None
    value = score.value
    return PlottedInterval(
        value=value,
        low=value if score.low is None else score.low,
        high=value if score.high is None else score.high,
    )


_TRAINED = re.compile(r"(?P<setting>.+) step (?P<step>\d+)")
_UNTOUCHED = "untouched"


def relearning(rungs: "Sequence[AttackRecovery]") -> str | None:
    """Draw a panel for each attack that trains, the worst first; None where none was scored."""
    panels = [panel for rung in rungs if (panel := relearning_panel(rung)) is not None]
    return relearning_curves(tuple(panels)) if panels else None


def relearning_panel(rung: "AttackRecovery") -> Panel | None:
    """Return one curve for each setting of an attack that trains, else None.

    The untouched model begins all of them.
    """
    start = [_at(0, test) for test in rung.tests if test.variant == _UNTOUCHED]
    points: dict[str, list[CurveAt]] = {}
    for test in rung.tests:
        trained = _TRAINED.fullmatch(test.variant)
        if trained is not None:
            points.setdefault(trained["setting"], list(start)).append(
                _at(int(trained["step"]), test)
            )
    if not points:
        return None
    worst = rung.worst
    assert worst is not None
    trained = _TRAINED.fullmatch(worst.variant)
    curves = tuple(
        Curve(
            label=setting,
            worst=trained is not None and trained["setting"] == setting,
            points=tuple(sorted(found, key=lambda point: point.step)),
        )
        for setting, found in sorted(points.items())
    )
    return Panel(label=rung.attack, curves=curves)


def _at(step: int, test: "AttackFinding") -> CurveAt:
    return CurveAt(step=step, model=test.judged, gold=test.anchor)
