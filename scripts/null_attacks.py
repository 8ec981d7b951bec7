"""A simulated battery: models that never saw the facts under every attack, and one that did.

What chance alone does to the ladder is known only where nothing but chance is at work. Here the
judged model is one more gold. Facts differ in how easily they are guessed, subjects too, and all
models share that; each model adds noise of its own that it keeps under every attack, each attack on
each model some more, and a model may guess better than another throughout.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from expunge.attacks.base import Attack, Attempt
from expunge.attacks.prompting.plain import Plainly
from expunge.attacks.store import NOTHING, AttackOutcome
from expunge.evals.recovery import AttackTrial, Ground
from expunge.evidence.context import Policy
from expunge.evidence.store import Item

VARIANTS = 4
"""Variants of an attack whose variants are tests of their own: depths, strengths, looks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NullWorld:
    """How many facts there are, and how much models differ by chance."""

    facts: int
    subjects: int
    golds: int
    """0: as many control items as facts, of other subjects, stand for gold."""
    guess: float = 0.1
    """Mean chance that a model states a fact that it never saw."""
    of_subjects: float = 0.5
    """Variance between subjects; that between facts is 1."""
    of_models: float = 0.5
    """Variance of what a model knows or guesses of a fact beside the others, under any attack."""
    of_attacks: float = 0.5
    """Variance of what an attack on a model brings to a fact."""
    between: float = 0.0
    """Standard deviation of how well models guess, throughout."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NullBattery:
    """What the ladder is made from."""

    trials: tuple[AttackTrial, ...]
    ground: Ground


def null_battery(world: NullWorld, attacks: Sequence[Attack], *, seed: int) -> NullBattery:
    """Return evidence of a battery on a model that never saw the facts; the original states all.

    Args:
        world: How large, how noisy.
        attacks: The battery; its budgets do not matter.
        seed: Of everything.
    """
    drawn = _Drawn(world, seed=seed)
    plain, top = drawn.outcomes(Plainly()), drawn.known(Plainly())
    ground = Ground(
        items=drawn.items,
        observable="key-fact",
        original=top.facts,
        golds=tuple(each.facts for each in plain[1:]),
        original_control=NOTHING if world.golds else top.control,
        policy=Policy(),
        seed=seed,
    )
    return NullBattery(
        trials=tuple(_trial(attack, drawn, alone=not world.golds) for attack in attacks),
        ground=ground,
    )


class _Both(NamedTuple):
    """What one model gave away."""

    facts: AttackOutcome
    control: AttackOutcome


class _Drawn:
    """The models of one battery: the judged one first, then its golds."""

    def __init__(self, world: NullWorld, *, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 7])
        self._world = world
        self.items = _items("forget", world) + (() if world.golds else _items("control", world))
        noise = 1 + world.of_subjects + world.of_models + world.of_attacks
        limit = NormalDist(0, np.sqrt(noise)).inv_cdf(1 - world.guess)
        self._easy = _ease(self._rng, self.items, world) - limit
        shape = (1 + world.golds, len(self.items))
        self._own = self._rng.normal(size=shape) * np.sqrt(world.of_models)
        self._own += self._rng.normal(size=(shape[0], 1)) * world.between

    def outcomes(self, attack: Attack) -> list[_Both]:
        """Return what the attack brings out of each model."""
        found: list[list[Attempt]] = [[] for _ in self._own]
        for variant in _names(attack):
            noise = self._rng.normal(size=self._own.shape) * np.sqrt(self._world.of_attacks)
            for model, row in enumerate(self._easy + self._own + noise):
                found[model] += _attempts(self.items, row, variant, graded=attack.meta.own_scale)
        return [_split(each) for each in found]

    def known(self, attack: Attack) -> _Both:
        """Return what the original states: every fact, and of control items what it guesses."""
        said = [item.split == "forget" for item in self.items]
        row = np.where(said, 1.0, self._easy)
        rows = [_attempts(self.items, row, name, graded=False) for name in _names(attack)]
        return _split([attempt for each in rows for attempt in each])


def _trial(attack: Attack, drawn: _Drawn, *, alone: bool) -> AttackTrial:
    judged, *golds = drawn.outcomes(attack)
    before = drawn.known(attack) if attack.meta.own_scale else _Both(NOTHING, NOTHING)
    return AttackTrial(
        name=attack.name,
        family=attack.meta.family,
        access=attack.meta.access,
        union=attack.meta.union,
        own_scale=attack.meta.own_scale,
        judged=judged.facts,
        golds=tuple(each.facts for each in golds),
        original=before.facts,
        control=judged.control if alone else NOTHING,
        original_control=before.control if alone else NOTHING,
    )


def _names(attack: Attack) -> list[str]:
    return [""] if attack.meta.union else [f"{i}" for i in range(VARIANTS)]


def _items(split: str, world: NullWorld) -> tuple[Item, ...]:
    return tuple(
        Item(
            record=f"{split}-{index}",
            split=split,
            question=f"Question {index}?",
            answer=f"It is key{index}",
            key_answers=(f"key{index}",),
            subject=f"{split} {index % world.subjects}",
        )
        for index in range(world.facts)
    )


def _ease(rng: np.random.Generator, items: Sequence[Item], world: NullWorld) -> NDArray[np.float64]:
    subjects = sorted({str(item.subject) for item in items})
    of = dict(zip(subjects, rng.normal(size=len(subjects)), strict=True))
    shared = np.array([of[str(item.subject)] for item in items]) * np.sqrt(world.of_subjects)
    return rng.normal(size=len(items)) + shared


def _attempts(
    items: Sequence[Item], row: NDArray[np.float64], variant: str, *, graded: bool
) -> list[Attempt]:
    """Return one attempt a fact: stated where the row is positive, or measured between 0 and 1."""
    values = ndtr(row) if graded else (row > 0).astype(np.float64)
    return [
        Attempt(record=item.record, variant=variant, value=value)
        for item, value in zip(items, values.tolist(), strict=True)
    ]


def _split(attempts: Sequence[Attempt]) -> _Both:
    """Return what was brought out about facts, and about control items."""
    forget, control = (
        tuple(a for a in attempts if a.record.startswith(split)) for split in ("forget", "control")
    )
    return _Both(AttackOutcome(attempts=forget), AttackOutcome(attempts=control))
