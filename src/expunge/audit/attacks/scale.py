"""The scale of a test: what the original knew beyond gold, which is all that could come back.

    K_o - K_g

Original and gold are asked plainly. Passages have no question, and facts at the end of long answers
lie beyond a plain one: there, both are taken under the attack itself, where the original was asked
under it. So they are by attacks that measure something else than facts stated. Under an attack the
original must measurably know more, else luck is divided by luck.
"""

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np

from expunge.audit.attacks.trial import Column, Ground, Trial
from expunge.audit.case import CONTROL_STREAM, measurably_above
from expunge.audit.stats import Sample

UNION = "any"
"""Name of the only test of an attack whose variants count together."""


class Scale(NamedTuple):
    """What the original and the golds know, so that a share of the difference can be named."""

    top: Column
    """The original."""
    floor: tuple[Column, ...]
    """The golds."""
    floor_control: Column
    """The original on control items, where there is no gold."""

    def gap(self, names: Collection[str]) -> float:
        """Return K_o - K_g over these facts; 0 where nothing stands for gold."""
        known = fmean(self.top[name] for name in names)
        if self.floor:
            return known - fmean(column[name] for column in self.floor for name in names)
        return known - fmean(self.floor_control.values()) if self.floor_control else 0.0

    def known(self, names: Sequence[str]) -> list[str]:
        """Return those of the facts that the original and all golds were asked for."""
        columns = (self.top, *self.floor)
        return [name for name in names if all(name in column for column in columns)]

    def measured(self, names: Sequence[str], ground: Ground) -> bool:
        """Tell whether the original measurably knew more than gold on those of the facts."""
        return more_is_known(self.top, self.floor, self.floor_control, self.known(names), ground)


class Columns(NamedTuple):
    """One test before it is scored."""

    trial: Trial
    variant: str
    judged: Column
    golds: tuple[Column, ...]
    control: Column
    scale: Scale | None
    """None: on these facts the original knew no more than gold."""

    @property
    def gap(self) -> float:
        """Return what there was to bring back; without a scale 1, a share of all facts."""
        return 1.0 if self.scale is None else self.scale.gap(self.judged)


def columns_of(trial: Trial, ground: Ground) -> list[Columns]:
    """Return the tests of a trial, each on the facts that all of its models were asked for.

    Args:
        trial: The attack; none of its tests where it could not be made on the judged model.
        ground: What it is scored against.
    """
    if trial.judged.missing:
        return []
    if trial.union:
        return [_columns(trial, None, ground)]
    variants = dict.fromkeys(attempt.variant for attempt in trial.judged.attempts)
    return [_columns(trial, variant, ground) for variant in variants]


def _columns(trial: Trial, variant: str | None, ground: Ground) -> Columns:
    judged = ground.column(trial.judged.attempts, variant)
    golds = tuple(ground.column(g.attempts, variant) for g in trial.golds if g.attempts)
    control = ground.column(trial.control.attempts, variant)
    shared = [name for name in judged if all(name in column for column in golds)]
    scale = _scale(trial, variant, golds, shared, ground)
    names = shared if scale is None else scale.known(shared)
    return Columns(
        trial=trial,
        variant=UNION if variant is None else variant,
        judged={name: judged[name] for name in names},
        golds=golds,
        control=control,
        scale=scale,
    )


def _scale(
    trial: Trial,
    variant: str | None,
    golds: tuple[Column, ...],
    shared: Sequence[str],
    ground: Ground,
) -> Scale | None:
    attacked = Scale(
        top=ground.column(trial.original.attempts, variant),
        floor=golds,
        floor_control=ground.column(trial.original_control.attempts, variant),
    )
    if trial.own_scale:
        return attacked if attacked.measured(shared, ground) else None
    plain = ground.column(ground.original.attempts)
    filled = _filled(trial, variant, attacked, plain, ground)
    names = filled.known(shared)
    if names and filled.gap(names) > 0 and all(name in plain for name in names):
        return filled
    return next((each for each in (filled, attacked) if each.measured(shared, ground)), None)


def _filled(
    trial: Trial, variant: str | None, attacked: Scale, plain: Column, ground: Ground
) -> Scale:
    """Return the scale of plain questions, under the attack where a fact has none."""
    floor = [
        ground.column(under.attempts, variant) | ground.column(plainly.attempts)
        for under, plainly in zip(trial.golds, ground.golds, strict=True)
    ]
    return Scale(
        top=attacked.top | plain,
        floor=tuple(column for column in floor if column),
        floor_control=attacked.floor_control | ground.column(ground.original_control.attempts),
    )


def more_is_known(
    judged: Column,
    golds: Sequence[Column],
    control: Column,
    names: Collection[str],
    ground: Ground,
) -> bool:
    """Tell whether a model measurably knows more than gold, see `measurably_above`.

    Args:
        judged: What the model knows.
        golds: What the golds know.
        control: What stands for gold where there is none; empty: nothing does.
        names: The facts.
        ground: Their subjects, and the seed.
    """
    if not names or not (golds or control):
        return False
    clusters = ground.clusters()
    averages = [fmean(column[name] for name in names) for column in golds]
    return measurably_above(
        sample(judged, names, clusters),
        anchored(golds, control, names, clusters),
        noise=stdev(averages) if len(averages) > 1 else 0.0,
        seed=ground.seed,
    )


def sample(
    column: Column, names: Collection[str], clusters: Mapping[str, str], stream: int = 0
) -> Sample:
    """Return the values of these facts, with their subjects, for a bootstrap."""
    values = np.array([column[name] for name in names], dtype=np.float64)
    return Sample(values, tuple(clusters[name] for name in names), stream)


def anchored(
    golds: Sequence[Column], control: Column, names: Collection[str], clusters: Mapping[str, str]
) -> Sample:
    """Return the golds' mean on these facts, or without gold all control items."""
    if golds:
        mean = {name: fmean(column[name] for column in golds) for name in names}
        return sample(mean, names, clusters)
    return sample(control, control, clusters, CONTROL_STREAM)
