"""Simulated evidence: models that never saw the forget set, and one that did.

What chance alone does to the gates is known only where nothing but chance is at work. Here every
model but the original is gold: trained the same way, never on the forget set, another seed. Records
differ in how hard they are and in how easily their facts are guessed, and both are shared by all
models; each model adds noise of its own to every record and every token, guesses a few facts, and
gets a few retained answers wrong.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from expunge.evals.evidence_table import Table
from expunge.evidence.context import AuditContext, Policy
from expunge.evidence.store import Answer, Item, Kind, Scores, Unit

TESTS = (
    "plain",
    "paraphrase",
    "prefill-affirm",
    "prefill-25",
    "prefill-50",
    "int8",
    "int4",
)
_TOKENS = 10
_TRAINED = ("retain", "neighbours")
_GENERAL = 40
_LEARNT = 2.2
"""What the original learnt on average: log-probability of a token, nats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """How many records there are, and how much models differ by chance."""

    records: int
    """Forget records, and as many of holdout."""
    subjects: int
    """Subjects that the forget records are about."""
    retain: int = 200
    neighbours: int = 100
    golds: int = 2
    guess: float = 0.03
    """Mean chance that a model states a fact that it never saw."""
    wrong: float = 0.05
    """Mean chance that a model gets a retained answer wrong; most models fail at the same ones."""
    record_noise: float = 0.06
    """Share of its loss by which models differ on one record, SD."""
    token_noise: float = 0.2
    """Share of its loss by which models differ on one token, SD."""
    shift: float = 0.0
    """Share of what the original learnt by which models differ on all unseen records, SD."""
    bare: bool = False
    """Only forget and retain records were given: no holdout, no neighbours."""

    @property
    def sizes(self) -> dict[str, int]:
        """Number of records of each set."""
        every = {
            "forget": self.records,
            "holdout": self.records,
            "retain": self.retain,
            "neighbours": self.neighbours,
            "generic": _GENERAL,
        }
        left_out = ("holdout", "neighbours") if self.bare else ()
        return {split: size for split, size in every.items() if split not in left_out}


def null_context(world: World, *, seed: int) -> AuditContext:
    """Return the context of an audit of a gold in the place of the unlearned model."""
    return AuditContext(
        request="null",
        goal="removal",
        tier="G2",
        threat_model="T1",
        level="quick",
        golds=tuple(f"gold-{index}" for index in range(world.golds)),
        adapter=False,
        seed=seed,
        policy=Policy(),
    )


def null_table(world: World, *, seed: int) -> Table:
    """Return the evidence of an original, of golds, and of one more gold called `unlearned`.

    Args:
        world: Sizes and noise.
        seed: Seed of everything.
    """
    rng = np.random.default_rng(seed)
    items = {split: _items(world, split) for split in world.sizes}
    table = Table(items=items, scores={}, answers={})
    roles = ("original", "unlearned", *(f"gold-{index}" for index in range(world.golds)))
    # From a stream of its own, so that nothing else is drawn otherwise.
    moved = np.random.default_rng([seed, 1]).normal(0, world.shift * _LEARNT, len(roles))
    shifts = dict(zip(roles, moved, strict=True))
    for split, size in world.sizes.items():
        hard = rng.normal(-2.2, 0.6, (size, 1)) + 0.8 * rng.normal(size=(size, _TOKENS))
        easy = rng.beta(0.3, 0.3 * (1 / world.guess - 1), size)
        right = 1 - rng.beta(0.3, 0.3 * (1 / world.wrong - 1), size)
        for role in roles:
            known = split in _TRAINED or (split == "forget" and role == "original")
            # Models trained apart differ little on general text.
            noise = 0.1 if split == "generic" else 1.0
            tests = TESTS if split == "forget" else ("plain",)
            for test in tests:
                stated = rng.random(size) < (right if known else easy)
                level = hard + (0.0 if split == "generic" else shifts[role])
                _fill(
                    table, world, rng, role, split, test, level, noise, known=known, stated=stated
                )
    return table


def _items(world: World, split: str) -> dict[str, Item]:
    subjects = world.subjects if split in ("forget", "holdout") else world.sizes[split]
    return {
        f"{split}-{index}": Item(
            record=f"{split}-{index}",
            split=split,
            question="" if split == "generic" else f"What is {index}?",
            answer=f"it is fact{split}{index}",
            key_answers=() if split == "generic" else (f"fact{split}{index}",),
            subject=None if split == "generic" else f"{split}-{index % subjects}",
        )
        for index in range(world.sizes[split])
    }


def _fill(
    table: Table,
    world: World,
    rng: np.random.Generator,
    role: str,
    split: str,
    test: str,
    hard: np.ndarray,
    noise: float,
    *,
    known: bool,
    stated: np.ndarray,
) -> None:
    def unit(kind: Kind) -> Unit:
        return Unit.under(test, role=role, split=split, kind=kind)

    names = list(table.items[split])
    if test == "plain" or unit("scores").precision != "native":
        # Real golds differ in proportion to the loss: on the demo and on TOFU by 0.1 of it.
        own = noise * world.record_noise * rng.normal(size=(len(names), 1))
        logp = hard * np.exp(own + noise * world.token_noise * rng.normal(size=hard.shape))
        if known:
            # A known answer that comes out wrong goes wrong at one token; the others stay known.
            logp = -0.02 - 0.05 * rng.random(hard.shape)
            logp[:, 0] -= np.where(stated, 0.0, 0.8)
        logp = np.minimum(logp, -1e-4)
        rows = zip(names, logp, strict=True)
        table.scores[unit("scores")] = {name: _scores(name, row) for name, row in rows}
    if split not in ("generic", "holdout"):
        answers = (
            _answer(table.items[split][n], bool(s)) for n, s in zip(names, stated, strict=True)
        )
        table.answers[unit("answers")] = {answer.record: answer for answer in answers}


def _scores(record: str, logp: Sequence[float]) -> Scores:
    values = tuple(float(x) for x in logp)
    hit = tuple(x > math.log(0.5) for x in values)
    z = tuple(x / 2 + 1 for x in values)
    return Scores(record=record, logp=values, hit=hit, z=z, ends=False, zlib=30)


def _answer(item: Item, stated: bool) -> Answer:
    text = item.answer if stated else f"it is something else about {item.record}"
    return Answer(record=item.record, text=text, nll=1.0)
