"""Familiarity: every membership score of a record that the evidence allows, and its comparison set.

All say higher = more likely a member. The checks of the comparison set stand here, too: a model
that never saw the data, and a bag of words, must fail to tell it from the forget set.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from expunge.evals.comparison import CONTROL_STREAM, Comparison
from expunge.evals.evidence_table import Column, common
from expunge.evidence.store import GRADIENT, LOWERCASE, RARITY, RECALL, Scores, Unit
from expunge.metrics import membership
from expunge.metrics.base import MEMBERSHIP
from expunge.metrics.membership_tests import matched, word_scores
from expunge.metrics.memorization import mean_log_probability
from expunge.metrics.statistics import TWO_SIDED, Estimate, Sample, auc_interval


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


RELATIVE: Mapping[str, Callable[[Comparison, str, str], Column]] = {
    "reference": reference,
    "lowercase": lowercase,
    "recall": recall,
    "gradient": gradient,
    "dc-pdd": dc_pdd,
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
