"""Membership: every score of a record that the evidence allows, and its comparison set.

All say higher = more likely a member. The checks of the comparison set stand here, too: a model
that never saw the data, and a bag of words, must fail to tell it from the forget set.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from expunge.evals.comparison import CONTROL_STREAM, Comparison
from expunge.evals.evidence_table import Column, common
from expunge.evals.results import Score
from expunge.evidence.store import (
    GRADIENT,
    LOWERCASE,
    ORIGINAL,
    PLAIN,
    RARITY,
    RECALL,
    Scores,
    Unit,
)
from expunge.metrics import membership
from expunge.metrics.base import MEMBERSHIP
from expunge.metrics.duci import share_in
from expunge.metrics.membership import (
    FEWEST,
    comparable,
    dataset_inference,
    matched,
    measurable_rate,
    tpr_at_fpr,
    word_scores,
)
from expunge.metrics.memorization import mean_log_probability
from expunge.metrics.muse import privacy_closeness, privleak
from expunge.metrics.rmia import ratios, scores
from expunge.metrics.statistics import TWO_SIDED, Estimate, Sample, auc, auc_interval


class Sides(NamedTuple):
    """One score on the forget set and on the set that no model was trained on."""

    members: Sample
    others: Sample

    @property
    def n(self) -> int:
        """Records of the smaller side."""
        return min(len(self.members.values), len(self.others.values))

    def auc(self, seed: int) -> Estimate:
        """Return the AUC with its 95 % interval."""
        return auc_interval(self.members, self.others, seed=seed, coverage=TWO_SIDED)


def comparison_split(case: Comparison, role: str) -> str | None:
    """Return the set that plays the non-members of a model: holdout, else control."""
    for split in ("holdout", "control"):
        if case.table.rows(MEMBERSHIP[0], role, split):
            return split
    return None


def _mean(case: Comparison, role: str, split: str, attack: str) -> Column:
    rows = case.table.scored(role, split, attack)
    found = {name: mean_log_probability(row) for name, row in rows.items()}
    return {name: value for name, value in found.items() if value is not None}


def _plain(case: Comparison, role: str, split: str) -> Column:
    return case.column(MEMBERSHIP[0], role, split)


def _paired(first: Column, second: Column, of: Callable[[float, float], float | None]) -> Column:
    names = common(first, second) if first and second else ()
    found = {name: of(first[name], second[name]) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def reference(case: Comparison, role: str, split: str) -> Column:
    """Return l_ref - l with the last gold as reference; empty for that gold and without gold."""
    if not case.golds or role == case.golds[-1]:
        return {}
    other = _plain(case, case.golds[-1], split)
    return _paired(_plain(case, role, split), other, membership.reference)


def lowercase(case: Comparison, role: str, split: str) -> Column:
    """Return what the exact spelling is worth; empty when not collected."""
    return _paired(
        _plain(case, role, split), _mean(case, role, split, LOWERCASE), membership.lowercase
    )


def recall(case: Comparison, role: str, split: str) -> Column:
    """Return ReCaLL's ratio; empty when not collected."""
    return _paired(_plain(case, role, split), _mean(case, role, split, RECALL), membership.recall)


def gradient(case: Comparison, role: str, split: str) -> Column:
    """Return minus the global gradient norm; empty when not collected."""
    unit = Unit(role=role, split=split, attack=GRADIENT, kind="layers")
    rows = case.table.layers.get(unit, {})
    return {name: membership.gradient(math.hypot(*row.values)) for name, row in rows.items()}


def dc_pdd(case: Comparison, role: str, split: str) -> Column:
    """Return the frequency-calibrated score; empty when token rarities were not collected."""
    unit = Unit(role="corpus", split=split, attack=RARITY, kind="layers")
    rare = case.table.layers.get(unit, {})
    found = {
        name: _calibrated(row, rare[name].values)
        for name, row in case.table.scored(role, split).items()
        if name in rare
    }
    return {name: value for name, value in found.items() if value is not None}


def _calibrated(row: Scores, rare: tuple[float, ...]) -> float | None:
    first = [value or None for value in rare[: row.content]]
    return membership.dc_pdd(row.logp[: row.content], first)


def rmia(case: Comparison, role: str, split: str) -> Column:
    """Return RMIA's log ratio; empty without models that were trained on random halves."""
    own = _mean(case, role, split, PLAIN)
    columns = [_mean(case, other, split, PLAIN) for other in _other_halves(case, role)]
    if not own or not columns:
        return {}
    names = common(own, *columns)
    references = np.array([[column[name] for name in names] for column in columns])
    found = ratios(np.array([own[name] for name in names]), references)
    return dict(zip(names, found.tolist(), strict=True))


def _other_halves(case: Comparison, role: str) -> tuple[str, ...]:
    """Return the halves that judge a model; for one of them, without it and its counterpart.

    So half of the references have seen each record, whichever model is judged.
    """
    own = set(case.halves.get(role, ()))
    if role not in case.halves:
        return tuple(case.halves)
    return tuple(other for other, saw in case.halves.items() if other != role and own & set(saw))


RELATIVE: Mapping[str, Callable[[Comparison, str, str], Column]] = {
    "reference": reference,
    "lowercase": lowercase,
    "recall": recall,
    "gradient": gradient,
    "dc-pdd": dc_pdd,
    "rmia": rmia,
}
"""Scores that compare two readings; each returns a column of one model on one set."""


def sides(case: Comparison, inside: Column, outside: Column, split: str) -> Sides | None:
    """Return both sides of one score; None when one is empty."""
    if not inside or not outside:
        return None
    return Sides(
        case.table.sample(inside, "forget"),
        case.table.sample(outside, split, stream=CONTROL_STREAM),
    )


def features(case: Comparison, role: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return all scores of one model as two matrices, (records, scores), members first.

    Only records that have every score, and only scores that both sides have; None without any.
    """
    split = comparison_split(case, role)
    if split is None:
        return None
    columns = [
        (case.column(metric, role, "forget"), case.column(metric, role, split))
        for metric in MEMBERSHIP
    ]
    columns += [(of(case, role, "forget"), of(case, role, split)) for of in RELATIVE.values()]
    columns = [pair for pair in columns if all(pair)]
    found: list[np.ndarray] = []
    for side in (0, 1):
        names = common(*(pair[side] for pair in columns)) if columns else ()
        found.append(np.array([[pair[side][name] for pair in columns] for name in names]))
    return (found[0], found[1]) if all(len(side) for side in found) else None


def words(case: Comparison) -> Sides | None:
    """Return how a bag of words scores forget and comparison set; None when it cannot learn."""
    split = comparison_split(case, case.subject)
    items = [case.table.items.get(name, {}) for name in ("forget", split or "")]
    if split is None or not all(items):
        return None
    texts = [[f"{i.question} {i.answer}" for i in side.values()] for side in items]
    groups = [
        case.table.clusters(name, list(side))
        for name, side in zip(("forget", split), items, strict=True)
    ]
    found = word_scores(
        texts[0], texts[1], member_groups=groups[0], other_groups=groups[1], seed=case.seed
    )
    if found is None:
        return None
    return Sides(
        Sample(found.members, tuple(groups[0])),
        Sample(found.others, tuple(groups[1]), CONTROL_STREAM),
    )


def matched_sides(case: Comparison, role: str) -> Sides | None:
    """Return LOSS on pairs that the first gold finds equally difficult; None without gold."""
    split = comparison_split(case, role)
    if split is None or not case.golds or role == case.golds[0]:
        return None
    hard = [_plain(case, case.golds[0], name) for name in ("forget", split)]
    own = [_plain(case, role, name) for name in ("forget", split)]
    if not all(hard) or not all(own):
        return None
    names = [common(a, b) for a, b in zip(hard, own, strict=True)]
    pairs = matched(*([column[n] for n in ns] for column, ns in zip(hard, names, strict=True)))
    kept = [{names[side][pair[side]]: 0.0 for pair in pairs} for side in (0, 1)]
    return sides(
        case,
        {name: own[0][name] for name in kept[0]},
        {name: own[1][name] for name in kept[1]},
        split,
    )


NO_OTHERS = "not computable: needs holdout or control records"
_HALVES = "needs a holdout set and models of `expunge gold --halves`"
_WHY = {
    "reference": "needs a gold model to refer to",
    "lowercase": "needs audit.further = true",
    "recall": "needs audit.further = true and more than six holdout or control records",
    "gradient": "needs audit.further = true",
    "dc-pdd": "needs audit.further = true and retained or general text",
    "rmia": _HALVES,
}


def membership_scores(case: Comparison, roles: tuple[str, ...]) -> Iterator[Score]:
    """Return AUCs of the further scores, the tail, set inference and checks of the set.

    Args:
        case: Who is judged.
        roles: Original, judged model and golds.
    """
    yield _words(case)
    for role in roles:
        for name in RELATIVE:
            yield from _relative(case, name, role)
        yield _matched(case, role)
        yield _tail(case, role)
        yield _set(case, role)
    yield share_as_trained(case)
    yield from _against_gold(case)


def _row(metric: str, role: str, reason: str = "") -> Score:
    return Score(metric=metric, role=role, split="forget", attack=PLAIN, value=None, reason=reason)


def _auc(case: Comparison, row: Score, found: Sides | None, missing: str) -> Score:
    if found is None:
        return replace(row, reason=f"not computable: {missing}")
    estimate = found.auc(case.seed)
    return replace(
        row, value=estimate.value, low=estimate.low, high=estimate.high, n=found.n, unit="AUC"
    )


def _words(case: Comparison) -> Score:
    """A bag of words, which knows no model: its AUC says whether the sets differ in wording."""
    row = _auc(
        case,
        _row("auc-words", "texts"),
        words(case),
        "needs holdout or control records about several subjects",
    )
    if row.value is None or row.low is None or row.high is None:
        return row
    good = comparable(row.value, row.low, row.high, n=row.n)
    return replace(
        row,
        reason="the comparison set is worded like the forget set"
        if good
        else "the sets differ in wording alone: no AUC says anything but its distance from gold's",
    )


def _relative(case: Comparison, name: str, role: str) -> Iterator[Score]:
    split = comparison_split(case, role)
    row = _row(f"auc-{name}", role)
    if split is None:
        if role == case.subject:
            yield replace(row, reason=NO_OTHERS)
        return
    of = RELATIVE[name]
    found = sides(case, of(case, role, "forget"), of(case, role, split), split)
    if found is not None or role == case.subject:
        yield _auc(case, row, found, _WHY[name])


def _matched(case: Comparison, role: str) -> Score:
    missing = "needs a gold model, and pairs that it finds equally hard"
    row = _auc(case, _row("auc-loss-matched", role), matched_sides(case, role), missing)
    if row.value is None:
        return row
    return replace(row, reason=f"{row.n} pairs within 0.05 nats under the first gold")


def _tail(case: Comparison, role: str) -> Score:
    split = comparison_split(case, role)
    row = _row("tpr-at-fpr", role)
    if split is None:
        return replace(row, reason=NO_OTHERS)
    columns = [case.column(MEMBERSHIP[0], role, name) for name in ("forget", split)]
    members, others = (list(column.values()) for column in columns)
    rate = measurable_rate(len(others))
    if rate is None or not members:
        return replace(row, reason="not computable: needs at least 20 records to compare with")
    return replace(
        row,
        value=tpr_at_fpr(members, others, rate),
        n=min(len(members), len(others)),
        unit="share",
        reason=f"by LOSS, at {rate:.0%} false positives, the lowest that {len(others)} can measure",
    )


def _set(case: Comparison, role: str) -> Score:
    row = _row("dataset-inference", role)
    found = features(case, role)
    p = None if found is None else dataset_inference(*found, seed=case.seed)
    if found is None or p is None:
        return replace(row, reason=f"not computable: needs {FEWEST} records on each side")
    return replace(
        row,
        value=p,
        n=min(map(len, found)),
        unit="p",
        reason=f"small: the set was trained on; by {found[0].shape[1]} scores",
    )


def share_as_trained(case: Comparison) -> Score:
    """Return the share of the forget set that still behaves as trained on; see `metrics.duci`."""
    row = _row("duci", case.subject)
    judged = _rmia_scores(case, case.subject)
    if not judged:
        return replace(row, reason=f"not computable: {_HALVES}")
    sides: tuple[list[float], list[float]] = ([], [])
    for half, saw in case.halves.items():
        for name, value in _rmia_scores(case, half).items():
            sides[name not in saw].append(value)
    members, others = (np.array(side) for side in sides)
    own = np.array(list(judged.values()))
    found = share_in(own, members, others, seed=case.seed) if all(sides) else None
    if found is None:
        return replace(row, reason="not computable: the halves do not tell what they saw")
    return replace(
        row,
        value=found.value,
        low=found.low,
        high=found.high,
        n=len(own),
        unit="share",
        reason=f"estimated by {len(case.halves)} models that saw a random half",
    )


def _rmia_scores(case: Comparison, role: str) -> Column:
    """Return RMIA's score of every forget record, against holdout records that a model never saw.

    Empty where one of the two is missing.
    """
    saw = case.halves.get(role, ())
    own = rmia(case, role, "forget")
    unseen = [ratio for name, ratio in rmia(case, role, "holdout").items() if name not in saw]
    if not own or not unseen:
        return {}
    found = scores(np.array(list(own.values())), np.array(unseen))
    return dict(zip(own, found.tolist(), strict=True))


def _against_gold(case: Comparison) -> Iterator[Score]:
    """Peers' relative forms, beside the differences of AUC that the gates read."""
    if not case.golds:
        reason = "not computable: needs a gold model (and is never replaced by 0.5)"
        yield _row("privleak", case.subject, reason)
        yield _row("privacy-closeness", case.subject, reason)
        return
    gold = _aucs(case, case.golds[0])
    for role in (ORIGINAL, case.subject):
        own = _aucs(case, role)
        row = _row("privleak", role)
        if not own or not gold or max(gold.values()) >= 1 or min(gold.values()) <= 0:
            yield replace(row, reason=NO_OTHERS)
            continue
        value = privleak(1 - own["min-k-40"], 1 - gold["min-k-40"])
        yield replace(row, value=value, unit="percent of gold's AUC", reason="MUSE's; 0 = gold")
        value = privacy_closeness(list(own.values()), list(gold.values()))
        row = replace(row, metric="privacy-closeness", value=value, unit="1 = gold")
        yield replace(row, higher_is_better=True)


def _aucs(case: Comparison, role: str) -> dict[str, float]:
    split = comparison_split(case, role)
    if split is None:
        return {}
    found: dict[str, float] = {}
    for metric in MEMBERSHIP:
        both = sides(
            case, case.column(metric, role, "forget"), case.column(metric, role, split), split
        )
        if both is not None:
            found[metric.id] = auc(both.members.values, both.others.values)
    return found if len(found) == len(MEMBERSHIP) else {}
