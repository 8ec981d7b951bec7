"""A run's evidence, counted as peers count, beside our own numbers."""

import math
from collections.abc import Callable
from statistics import fmean
from typing import NamedTuple

import numpy as np

from expunge.evals.evidence_table import Table
from expunge.evidence.store import GRADIENT, PERTURBED, Item, Scores, Unit
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
from expunge.metrics.rouge import rouge_l_recall
from expunge.metrics.statistics import Array, auc
from expunge.metrics.tofu import forget_quality, forget_truth, truth_ratio, utility_truth


class _Attack(NamedTuple):
    """A membership score that peers count differently; theirs is a loss, lower for members."""

    name: str
    metric: str
    theirs: Callable[[Scores, Item], float | None]
    note: str


def _their_min_k(scores: Scores, _item: Item) -> float | None:
    return their_definitions.min_k(scores)


def _their_min_k_plus(scores: Scores, _item: Item) -> float | None:
    return their_definitions.min_k_plus(scores)


_LAST = "E4: last token dropped by position"
_ATTACKS = (
    _Attack("mia_loss", "loss", their_definitions.loss, "E4: end token scored"),
    _Attack("mia_zlib", "zlib", their_definitions.zlib, "E4: end token scored"),
    _Attack("mia_min_k", "min-k-40", _their_min_k, _LAST),
    _Attack(
        "mia_min_k_plus_plus",
        "min-k-plus-20",
        _their_min_k_plus,
        f"{_LAST}; their k is 40 %",
    ),
)
_PRIVLEAK = "mia_min_k"


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
    for role in roles:
        found += [number for split in ("forget", "retain") for number in _rouge(table, role, split)]
        found += _truth(table, role)
        found += _forget_quality(table, role, golds)
    aucs = {
        (role, attack.name): pair
        for role in roles
        for attack in _ATTACKS
        if (pair := _aucs(table, role, attack)) is not None
    }
    found += [
        PeerNumber(
            name=f"{role} {attack.name}",
            value=pair[0],
            metric=f"auc-{attack.metric}",
            ours=pair[1],
            better="gold",
            note=attack.note,
        )
        for attack in _ATTACKS
        for role in roles
        if (pair := aucs.get((role, attack.name))) is not None
    ]
    for role in roles:
        found += _gradient(table, role)
    gold = next((aucs[role, _PRIVLEAK] for role in golds if (role, _PRIVLEAK) in aucs), None)
    # In their direction gold's AUC is the denominator.
    if gold is not None and gold[0] < 1:
        found += [
            _privleak(role, aucs[role, _PRIVLEAK], gold)
            for role in roles
            if (role, _PRIVLEAK) in aucs
        ]
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


def _rouge(table: Table, role: str, split: str) -> list[PeerNumber]:
    """Return ROUGE-L recall with stemming of the plain answers, which both count alike."""
    items = table.items.get(split, {})
    rows = table.answers.get(Unit(role=role, split=split, kind="answers"), {})
    values = [
        value
        for record, row in rows.items()
        if record in items and (value := rouge_l_recall(row, items[record])) is not None
    ]
    if not values:
        return []
    return [
        PeerNumber(
            name=f"{role} {split} Q_A_ROUGE",
            value=fmean(values),
            metric="rouge-l-recall-stem",
            ours=fmean(values),
            better="lower" if split == "forget" else "higher",
            note="answers end at audit.max_new_tokens; theirs at 200 tokens",
        )
    ]


def _ratios(table: Table, role: str, split: str) -> list[tuple[float, float]]:
    """Return their and our truth ratio of every record that has false answers."""
    unit = Unit(role=role, split=split, attack=PERTURBED, kind="choices")
    found: list[tuple[float, float]] = []
    for row in table.choices.get(unit, {}).values():
        theirs = their_definitions.truth_ratio(row)
        means = [logp / n for logp, n in zip(row.logp, row.tokens, strict=True)]
        wrong = [value for place, value in enumerate(means) if place != row.correct]
        ours = truth_ratio(means[row.correct], wrong)
        if theirs is not None and ours is not None:
            found.append((theirs, ours))
    return found


def _truth(table: Table, role: str) -> list[PeerNumber]:
    found: list[PeerNumber] = []
    if forget := _ratios(table, role, "forget"):
        found.append(
            PeerNumber(
                name=f"{role} forget_truth_ratio",
                value=fmean(forget_truth(theirs) for theirs, _ in forget),
                metric="truth-share",
                ours=fmean(1 / (1 + ours) for _, ours in forget),
                better="gold",
                note="E4: end token scored; E13: theirs is min(r, 1/r), ours c / (c + w)",
            )
        )
    if retain := _ratios(table, role, "retain"):
        found.append(
            PeerNumber(
                name=f"{role} retain_Truth_Ratio",
                value=fmean(utility_truth(theirs) for theirs, _ in retain),
                metric="truth-utility",
                ours=fmean(utility_truth(ours) for _, ours in retain),
                better="higher",
                note="E4: end token scored",
            )
        )
    return found


def _forget_quality(table: Table, role: str, golds: tuple[str, ...]) -> list[PeerNumber]:
    """Return the p-value of the truth ratios against the first other model that is a gold."""
    gold = next((each for each in golds if each != role), None)
    own, other = _ratios(table, role, "forget"), _ratios(table, gold, "forget") if gold else []
    if not own or not other:
        return []
    theirs = forget_quality([t for t, _ in own], [t for t, _ in other])
    ours = forget_quality([t for _, t in own], [t for _, t in other])
    return [
        PeerNumber(
            name=f"{role} forget_quality",
            value=theirs.p,
            metric="ks-distance",
            ours=ours.distance,
            better="higher",
            note=f"p against {gold} at n = {theirs.n}; E4: end token scored; ours is KS distance",
        )
    ]


def _aucs(table: Table, role: str, attack: _Attack) -> tuple[float, float] | None:
    """Return their and our member-positive AUC of a score, forget against holdout."""
    metric = next(each for each in MEMBERSHIP if each.id == attack.metric)
    theirs: list[Array] = []
    ours: list[Array] = []
    for split in ("forget", "holdout"):
        items = table.items.get(split, {})
        losses = [
            attack.theirs(row, items[record])
            for record, row in table.scored(role, split).items()
            if record in items
        ]
        theirs.append(np.array([-loss for loss in losses if loss is not None]))
        ours.append(np.array(list(table.column(metric, role, split).values())))
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
