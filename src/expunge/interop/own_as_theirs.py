"""A run's evidence, counted as peers count, beside our own numbers."""

import math
from collections.abc import Callable
from statistics import fmean
from typing import NamedTuple

import numpy as np

from expunge.evals.evidence_table import Table
from expunge.evidence.store import Item, Scores, Unit
from expunge.evidence.unit_names import GRADIENT
from expunge.interop import their_definitions
from expunge.interop.base import Better, PeerNumber
from expunge.metrics.base import (
    EXACT_MEMORISATION,
    EXTRACTION_STRENGTH,
    MEMBERSHIP,
    PROBABILITY,
    ScoreMetric,
)
from expunge.metrics.muse import privleak
from expunge.metrics.statistics import Array, auc

_MIN_K = next(metric for metric in MEMBERSHIP if metric.id == "min-k-40")


class _Mean(NamedTuple):
    """A mean over records that peers count differently."""

    name: str
    metric: ScoreMetric
    theirs: Callable[[Scores, Item], float | None]
    note: str


def _strength(scores: Scores, _item: Item) -> float | None:
    return their_definitions.extraction_strength(scores)


def _exact(scores: Scores, _item: Item) -> float | None:
    return their_definitions.exact_memorisation(scores)


_MEANS = (
    _Mean(
        "extraction_strength",
        EXTRACTION_STRENGTH,
        _strength,
        "E1: floor 1/T; E2: empty items count 0; E4: last token dropped by position",
    ),
    _Mean(
        "exact_memorization",
        EXACT_MEMORISATION,
        _exact,
        "E4: last token dropped by position",
    ),
    _Mean(
        "Q_A_Prob",
        PROBABILITY,
        their_definitions.probability,
        "E4: end token scored; E3: plain text is divided by one token more",
    ),
)


def own_numbers(table: Table, golds: tuple[str, ...]) -> tuple[PeerNumber, ...]:
    """Return open-unlearning's numbers of every model of a run, beside ours.

    Args:
        table: The evidence of the run.
        golds: Roles of its gold models.
    """
    roles = ("original", "unlearned", *golds)
    found = [
        number
        for split, better in _DIRECTIONS
        for role in roles
        for mean in _MEANS
        if (number := _mean(table, mean, role, split, better)) is not None
    ]
    aucs = {role: pair for role in roles if (pair := _aucs(table, role)) is not None}
    for role, (theirs, ours) in aucs.items():
        found.append(
            PeerNumber(
                name=f"{role} mia_min_k",
                value=theirs,
                metric="auc-min-k-40",
                ours=ours,
                better="gold",
                note="E4: last token dropped by position",
            )
        )
    for role in roles:
        found += _gradient(table, role)
    gold = next((aucs[role] for role in golds if role in aucs), None)
    # In their direction gold's AUC is the denominator.
    if gold is not None and gold[0] < 1:
        found += [_privleak(role, own, gold) for role, own in aucs.items()]
    return tuple(found)


_DIRECTIONS: tuple[tuple[str, Better], ...] = (("forget", "lower"), ("retain", "higher"))


def _mean(table: Table, mean: _Mean, role: str, split: str, better: Better) -> PeerNumber | None:
    items = table.items.get(split, {})
    values = [
        value
        for record, row in table.scored(role, split).items()
        if record in items and (value := mean.theirs(row, items[record])) is not None
    ]
    ours = table.column(mean.metric, role, split)
    if not values or not ours:
        return None
    return PeerNumber(
        name=f"{role} {split} {mean.name}",
        value=fmean(values),
        metric=mean.metric.id,
        ours=fmean(ours.values()),
        better=better,
        note=mean.note,
    )


def _aucs(table: Table, role: str) -> tuple[float, float] | None:
    """Return their and our member-positive AUC of Min-K, forget against holdout."""
    theirs: list[Array] = []
    ours: list[Array] = []
    for split in ("forget", "holdout"):
        losses = [their_definitions.min_k(row) for row in table.scored(role, split).values()]
        theirs.append(np.array([-loss for loss in losses if loss is not None]))
        ours.append(np.array(list(table.column(_MIN_K, role, split).values())))
    if not all(len(side) for side in (*theirs, *ours)):
        return None
    return auc(theirs[0], theirs[1]), auc(ours[0], ours[1])


def _gradient(table: Table, role: str) -> list[PeerNumber]:
    """Return the AUC of the gradient norm, theirs and ours, where gradients were taken."""
    theirs: list[Array] = []
    ours: list[Array] = []
    for split in ("forget", "holdout"):
        unit = Unit(role=role, split=split, attack=GRADIENT, kind="layers")
        norms = [row.values for row in table.layers.get(unit, {}).values()]
        means = [their_definitions.gradient(values) for values in norms]
        theirs.append(np.array([-mean for mean in means if mean is not None]))
        ours.append(np.array([-math.hypot(*values) for values in norms]))
    if not all(len(side) for side in (*theirs, *ours)):
        return []
    return [
        PeerNumber(
            name=f"{role} mia_gradnorm",
            value=auc(theirs[0], theirs[1]),
            metric="auc-gradient",
            ours=auc(ours[0], ours[1]),
            better="gold",
            note="E5: mean of the tensors' norms; ours is the global norm",
        )
    ]


def _privleak(role: str, own: tuple[float, float], gold: tuple[float, float]) -> PeerNumber:
    return PeerNumber(
        name=f"{role} privleak",
        value=privleak(1 - own[0], 1 - gold[0]),
        metric="auc-min-k-40",
        ours=own[1] - gold[1],
        better="gold",
        note="E8: percent of gold's; ours is a difference of member-positive AUCs",
    )
