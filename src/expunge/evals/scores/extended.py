"""Scores beyond the gated ones: options, divergence, depth, weights, distance, churn.

Last, the quality of answers: how sure, how wrong, how easily told from a gold's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from expunge.evals.axes.privacy import edit_detection
from expunge.evals.comparison import Comparison
from expunge.evals.evidence_table import Column, common
from expunge.evals.results import Score
from expunge.evidence.store import (
    DIVERGENCE,
    EXPERTS,
    LENS,
    ORIGINAL,
    PATCHED,
    PERTURBED,
    PLAIN,
    ROUTING,
    WEIGHTS,
    Choices,
    Layers,
    Unit,
)
from expunge.metrics.answer_quality import confident_falsehood
from expunge.metrics.base import FACT_LEAK, KEY_FACT, OWN_NLL, PROBABILITY, REFUSAL
from expunge.metrics.erasure_depth import erasure_depth
from expunge.metrics.exposure import exposure_by_rank, mean_exposure_bound
from expunge.metrics.memorization import log_sum_exp
from expunge.metrics.model_drift import churn, distance_response, divergence, word_distances
from expunge.metrics.multiple_choice import (
    brier,
    choice_accuracy,
    expected_calibration_error,
    option_probability,
)
from expunge.metrics.statistics import TWO_SIDED, mean_interval
from expunge.metrics.tofu import (
    MARGIN,
    distance_share,
    equivalence_p,
    forget_quality,
    truth_ratio,
    truth_share,
    utility_truth,
)

CANDIDATES = 20
"""Fewest candidates of a secret's form, itself among them, among which its rank is told."""
NO_GOLD = "not computable: needs a gold model"
UNROUTED = {
    False: "not applicable: the model has no routers",
    True: "not computable: needs weights of the original's shape, and routers that name experts",
}
"""Why there is no router drift, by whether the original is a mixture of experts."""
NO_OPTIONS = "not computable: needs perturbed answers (`perturbed_answer` or `choices`)"


def further_scores(case: Comparison, roles: tuple[str, ...]) -> Iterator[Score]:
    """Return the scores of further evidence, and why the others cannot be computed.

    Args:
        case: Who is judged.
        roles: Original, judged model and golds.
    """
    units = sorted(case.table.choices, key=lambda unit: (unit.split, unit.role))
    for unit in units:
        if unit.attack == PERTURBED and unit.role in roles:
            yield from _options(case, unit)
    yield from _exposures(case, roles)
    yield from _quality(case)
    yield from _divergences(case, roles)
    yield from _depths(case)
    yield from _weights(case)
    yield from _routing(case, roles)
    yield from _distances(case)
    yield from _churn(case)


def _row(metric: str, role: str, split: str, reason: str = "", *, attack: str = PLAIN) -> Score:
    return Score(metric=metric, role=role, split=split, attack=attack, value=None, reason=reason)


def means(row: Choices) -> tuple[float, tuple[float, ...]]:
    """Return the mean log-probability per token of the right candidate and of the others."""
    each = [total / max(1, n) for total, n in zip(row.logp, row.tokens, strict=True)]
    right = each.pop(row.correct)
    return right, tuple(each)


def ratios(case: Comparison, role: str, split: str = "forget") -> Column:
    """Return the truth ratio of each record of one model; empty when not collected."""
    rows = case.table.choices.get(
        Unit(role=role, split=split, attack=PERTURBED, kind="choices"), {}
    )
    found = {name: truth_ratio(*means(row)) for name, row in rows.items()}
    return {name: ratio for name, ratio in found.items() if ratio is not None}


def _confidence(row: Choices) -> list[float]:
    """Return the probability of each candidate among all, by sums of log-probabilities."""
    total = log_sum_exp(row.logp)
    return [float(np.exp(value - total)) for value in row.logp]


def _kept_truth(row: Choices) -> float | None:
    ratio = truth_ratio(*means(row))
    return None if ratio is None else utility_truth(ratio)


_PER_RECORD: Mapping[str, Callable[[Choices], float | None]] = {
    "truth-share": lambda row: truth_share(*means(row)),
    "truth-utility": _kept_truth,
    "option-probability": lambda row: option_probability(*means(row)),
    "choice-accuracy": lambda row: choice_accuracy(row.logp, row.correct),
    "brier": lambda row: brier(_confidence(row), row.correct),
}


def _options(case: Comparison, unit: Unit) -> Iterator[Score]:
    """Means over the records of one set; a metric of knowledge is to fall on the forget set."""
    rows = case.table.choices[unit]
    known = {"forget": False, "holdout": None, "control": None}.get(unit.split, True)
    for metric, of in _PER_RECORD.items():
        column = {name: value for name, row in rows.items() if (value := of(row)) is not None}
        if not column:
            continue
        found = mean_interval(case.table.sample(column, unit.split), seed=case.seed)
        yield replace(
            _row(metric, unit.role, unit.split),
            value=found.value,
            low=found.low,
            high=found.high,
            n=len(column),
            unit="share",
            higher_is_better=False if metric == "brier" else known,
        )
    sure = [_confidence(row) for row in rows.values()]
    right = [choice_accuracy(row.logp, row.correct) or 0.0 for row in rows.values()]
    yield replace(
        _row("ece", unit.role, unit.split),
        value=expected_calibration_error([max(each) for each in sure], right),
        n=len(rows),
        unit="share",
        higher_is_better=False,
    )


def _exposures(case: Comparison, roles: tuple[str, ...]) -> Iterator[Score]:
    """Mean exposure of planted secrets: records that list their whole form as false answers."""
    found = False
    for role in roles:
        rows = case.table.choices.get(
            Unit(role=role, split="forget", attack=PERTURBED, kind="choices"), {}
        )
        column = {
            name: exposure_by_rank(
                row.logp[row.correct], [v for i, v in enumerate(row.logp) if i != row.correct]
            )
            for name, row in rows.items()
            if len(row.logp) >= CANDIDATES
        }
        if not column:
            continue
        found = True
        mean = mean_interval(case.table.sample(column, "forget"), seed=case.seed)
        bound = mean_exposure_bound(len(column))
        yield replace(
            _row("exposure", role, "forget"),
            value=mean.value,
            low=mean.low,
            high=mean.high,
            n=len(column),
            unit="bits",
            higher_is_better=False,
            reason=f"the mean of unseen secrets lies above {bound:.2f} in 5 % of cases",
        )
    if not found:
        reason = f"not computable: needs secrets with {CANDIDATES - 1} false answers of their form"
        yield _row("exposure", case.subject, "forget", reason)


def _quality(case: Comparison) -> Iterator[Score]:
    """Forget quality of the judged model against the first gold."""
    names = ("ks-distance", "forget-quality", "ks-equivalence-p", "distance-share")
    own, before = ratios(case, case.subject), ratios(case, ORIGINAL)
    golds = [column for role in case.golds if (column := ratios(case, role))]
    if not own or not golds:
        reason = NO_OPTIONS if not own else NO_GOLD
        yield from (_row(name, case.subject, "forget", reason) for name in names)
        return
    gold = list(golds[0].values())
    found = forget_quality(list(own.values()), gold)
    noise = forget_quality(list(golds[1].values()), gold).distance if len(golds) > 1 else 0.0
    same = equivalence_p(found.distance, found.n, len(gold))
    row = replace(_row(names[0], case.subject, "forget"), n=found.n)
    yield replace(row, value=found.distance, unit="KS distance", higher_is_better=False)
    yield replace(
        row,
        metric=names[1],
        value=found.p,
        unit="p",
        higher_is_better=True,
        reason=f"TOFU's; comparable at n = {found.n} only, and never gated",
    )
    yield replace(
        row,
        metric=names[2],
        value=same,
        unit="p",
        higher_is_better=False,
        reason=f"small: the distributions differ by less than {MARGIN}",
    )
    share = None
    if before:
        original = forget_quality(list(before.values()), gold).distance
        share = distance_share(found.distance, original, noise=noise)
    yield replace(
        row,
        metric=names[3],
        value=share,
        unit="0 = original, 1 = gold",
        higher_is_better=True,
        reason="" if share is not None else "the original is no farther from gold than golds are",
    )


def _divergences(case: Comparison, roles: tuple[str, ...]) -> Iterator[Score]:
    for role in roles:
        if role == ORIGINAL:
            continue
        for split in ("retain", "generic"):
            rows = _layers(case, role, split, DIVERGENCE)
            found = divergence([value for row in rows.values() for value in row.values])
            if found is None:
                if role == case.subject and case.table.items.get(split):
                    reason = "not computable: the models' vocabularies or shapes differ"
                    yield _row("kl-median", role, split, reason)
                continue
            for metric, value in (("kl-median", found.median), ("kl-p95", found.p95)):
                row = replace(_row(metric, role, split), value=value, n=len(rows), unit="nats")
                yield replace(row, higher_is_better=False if role == case.subject else None)


def _layers(case: Comparison, role: str, split: str, attack: str) -> Mapping[str, Layers]:
    unit = Unit(role=role, split=split, attack=attack, kind="layers")
    return case.table.layers.get(unit, {})


def _depths(case: Comparison) -> Iterator[Score]:
    """Erasure depth by patching and by lens; rows hold one value per block and the clean one."""
    gold = case.golds[0] if case.golds else ""
    for metric, attack in (("patching-depth", PATCHED), ("lens-depth", LENS)):
        own = _layers(case, case.subject, "forget", attack)
        other = _layers(case, gold, "forget", attack) if gold else {}
        start = _layers(case, ORIGINAL, "forget", attack)
        row = _row(metric, case.subject, "forget")
        names = [name for name in own if name in other and name in start]
        if not names:
            reason = NO_GOLD if own else "not computable: needs audit.further = true"
            yield replace(row, reason=reason)
            continue
        column: Column = {}
        for name in names:
            drops = [
                [a - b for a, b in zip(start[name].values, rows[name].values, strict=True)][:-1]
                for rows in (other, own)
            ]
            depth = erasure_depth(*drops)
            if depth is not None:
                column[name] = depth
        skipped = len(names) - len(column)
        reason = f"{skipped} records skipped: no layer of the original holds them" * bool(skipped)
        if not column:
            yield replace(row, reason=reason)
            continue
        found = mean_interval(case.table.sample(column, "forget"), seed=case.seed)
        yield replace(
            row,
            value=found.value,
            low=found.low,
            high=found.high,
            n=len(column),
            unit="0 = original, 1 = gold",
            higher_is_better=True,
            reason=reason,
        )


def _weights(case: Comparison) -> Iterator[Score]:
    """The change of the whole and of the part that changed most; the map is in the report."""
    rows = _layers(case, case.subject, "weights", WEIGHTS)
    if not rows:
        return
    most = max(rows, key=lambda name: rows[name].values[0])
    changes = np.array([row.values[0] for row in rows.values()])
    for metric, value, reason in (
        ("weight-change", float(np.median(changes)), f"median of {len(rows)} changed tensors"),
        ("weight-change-max", float(changes.max()), most),
    ):
        row = replace(_row(metric, case.subject, "weights"), value=value, n=len(rows))
        yield replace(row, unit="relative to the original", reason=reason)


def _routing(case: Comparison, roles: tuple[str, ...]) -> Iterator[Score]:
    """Router drift on kept records, of the judged model and of gold; no gate reads it.

    A gold routes many tokens otherwise than the original, so a fixed margin would fail golds.
    """
    for metric, attack in (("experts-changed", EXPERTS), ("routing-shift", ROUTING)):
        found = False
        for role, split in ((role, split) for role in roles for split in ("retain", "neighbours")):
            rows = _layers(case, role, split, attack)
            if not rows:
                continue
            found = True
            column = {name: float(np.mean(row.values)) for name, row in rows.items()}
            blocks = np.mean([row.values for row in rows.values()], axis=0)
            mean = mean_interval(case.table.sample(column, split), seed=case.seed)
            yield replace(
                _row(metric, role, split),
                value=mean.value,
                low=mean.low,
                high=mean.high,
                n=len(column),
                unit="share",
                higher_is_better=False if role == case.subject else None,
                reason=f"at most {blocks.max():.3f} at one of {len(blocks)} routers; never gated",
            )
        if not found:
            yield _row(metric, case.subject, "retain", UNROUTED[case.routers])


def _distances(case: Comparison) -> Iterator[Score]:
    """Loss of probability by distance from the forget set, the nearest quarter first."""
    targets = [f"{i.question} {i.answer}" for i in case.table.items.get("forget", {}).values()]
    texts: list[str] = []
    lost: list[float] = []
    for split in ("neighbours", "retain"):
        before = case.column(PROBABILITY, ORIGINAL, split)
        after = case.column(PROBABILITY, case.subject, split)
        items = case.table.items.get(split, {})
        for name in common(before, after) if before and after else ():
            texts.append(f"{items[name].question} {items[name].answer}")
            lost.append(before[name] - after[name])
    if not texts or not targets:
        return
    far = word_distances(texts, targets).tolist()
    for place, ring in enumerate(distance_response(far, lost), 1):
        row = _row("distance-response", case.subject, "retain", attack=f"ring-{place}")
        yield replace(
            row,
            value=ring.damage,
            n=ring.n,
            unit="fall of probability",
            higher_is_better=False,
            reason=f"mean word distance from the forget set {ring.distance:.2f}",
        )


def _churn(case: Comparison) -> Iterator[Score]:
    for split in ("retain", "neighbours"):
        before = case.column(KEY_FACT, ORIGINAL, split)
        after = case.column(KEY_FACT, case.subject, split)
        names = common(before, after) if before and after else ()
        found = churn([before[name] for name in names], [after[name] for name in names])
        if found is not None:
            row = replace(_row("churn", case.subject, split), value=found.total, n=len(names))
            reason = f"{found.lost:.0%} turned wrong, {found.gained:.0%} turned right"
            yield replace(row, unit="share", higher_is_better=False, reason=reason)


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


def _quality_row(metric: str, role: str, reason: str) -> Score:
    return Score(metric=metric, role=role, split="forget", attack=PLAIN, value=None, reason=reason)


def _mean(case: Comparison, metric: str, role: str, column: Column, *, unit: str) -> Score:
    lacking = "place of the facts" if metric.startswith("span-") else "own likelihood of answers"
    row = _quality_row(metric, role, f"not computable: the {lacking} was not measured")
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
    row = _quality_row("edit-detection", role, "not computable: needs another gold model's answers")
    found = edit_detection(case, role, coverage=TWO_SIDED)
    if found is None:
        return row
    value, n = found
    return replace(
        row, value=value.value, low=value.low, high=value.high, n=n, unit="AUC", reason=""
    )
