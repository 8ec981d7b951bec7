"""Membership against gold: residuals and ranks whose answer is known."""

import random

import numpy as np
import pytest

from expunge.evals.axes.privacy import person_rank, privacy_gates, sign_flip_p
from expunge.evals.comparison import Comparison
from expunge.evals.evidence_table import Table
from expunge.evidence.context import Policy
from expunge.evidence.store import Item, Scores, Unit
from expunge.metrics.outcomes import Status

N = 60
OTHERS = -2.0
"""Mean log-probability that every model gives to records of the comparison set, SD 0.5."""


def scored(name: str, level: float) -> Scores:
    logp = (level, level)
    return Scores(record=name, logp=logp, hit=(False,) * 2, z=logp, ends=False, zlib=30)


def own_noise(role: str, place: int) -> float:
    """Models differ by a little on every record."""
    return random.Random(f"{role}{place}").gauss(0.0, 0.02)


def case(levels: dict[str, float | None], others: float = OTHERS) -> Comparison:
    """Each model gives the forget records one mean level; None: it scored no comparison set."""
    rng = np.random.default_rng(0)
    own, outside = 0.5 * rng.normal(size=N), 0.5 * rng.normal(size=N)
    scores: dict[Unit, dict[str, Scores]] = {}
    for role, level in levels.items():
        for split, mean, spread in (("forget", level or 0.0, own), ("holdout", others, outside)):
            if split == "forget" or level is not None:
                scores[Unit(role=role, split=split, kind="scores")] = {
                    f"{split}{i}": scored(f"{split}{i}", mean + spread[i] + own_noise(role, i))
                    for i in range(N)
                }
    items = {
        split: {
            f"{split}{i}": Item(record=f"{split}{i}", split=split, question="q", answer="a")
            for i in range(N)
        }
        for split in ("forget", "holdout")
    }
    golds = tuple(role for role in levels if role.startswith("gold"))
    return Comparison(
        table=Table(items=items, scores=scores, answers={}),
        subject="unlearned",
        golds=golds,
        policy=Policy(),
        seed=0,
    )


@pytest.mark.parametrize(
    ("levels", "status"),
    [
        ({"original": 0.0, "unlearned": -2.0, "gold-0": -2.0}, Status.PASS),
        ({"original": 0.0, "unlearned": 0.0, "gold-0": -2.0}, Status.FAIL),
        # A fifth of the original's memory in every record.
        ({"original": 0.0, "unlearned": -1.6, "gold-0": -2.0}, Status.FAIL),
        ({"original": 0.0, "unlearned": -4.0, "gold-0": -2.0}, Status.SCAR),
        # Within a tenth of what the original holds, either way.
        ({"original": 0.0, "unlearned": -1.9, "gold-0": -2.0}, Status.PASS),
        ({"original": 0.0, "unlearned": -2.1, "gold-0": -2.0}, Status.PASS),
        # An original that was trained on the data, and does not recognise it.
        ({"original": -2.0, "unlearned": -2.0, "gold-0": -2.0}, Status.NOT_COMPUTABLE),
        ({"original": 0.0, "unlearned": -2.0}, Status.NOT_COMPUTABLE),
    ],
)
def test_membership_is_a_residual_on_both_sides(levels, status):
    (gate,) = privacy_gates(case(levels))
    assert gate.status is status, gate
    assert gate.two_sided is (status is not Status.NOT_COMPUTABLE)


def test_the_comparison_set_may_be_of_any_difficulty():
    """Paired with a gold record by record: holdout records tell the noise and nothing else."""
    levels = {"original": 0.0, "unlearned": -2.0, "gold-0": -2.0}
    (easy,), (hard,) = (privacy_gates(case(levels, others)) for others in (-0.5, -6.0))
    assert easy.value == hard.value
    assert easy.status is hard.status is Status.PASS


def people(excess: dict[str, float]) -> Comparison:
    """One erased person and control people, four records each, `excess` nats above gold."""
    items: dict[str, dict[str, Item]] = {}
    scores: dict[Unit, dict[str, Scores]] = {}
    for name, more in excess.items():
        split = "forget" if name == "erased" else "control"
        for i in range(4):
            record = f"{name}-{i}"
            items.setdefault(split, {})[record] = Item(
                record=record, split=split, question="q", answer="a", subject=name
            )
            for role, level in (("unlearned", -2.0 + more), ("gold-0", -2.0), ("original", 0.0)):
                unit = Unit(role=role, split=split, kind="scores")
                scores.setdefault(unit, {})[record] = scored(record, level)
    return Comparison(
        table=Table(items=items, scores=scores, answers={}),
        subject="unlearned",
        golds=("gold-0",),
        policy=Policy(),
        seed=0,
    )


def test_one_person_ranks_among_control_people():
    controls = {f"control-{i}": 0.01 * i for i in range(19)}
    assert person_rank(people({"erased": 1.0, **controls})) == (pytest.approx(0.05), 19)
    assert person_rank(people({"erased": -1.0, **controls})) == (1.0, 19)
    assert person_rank(people({"erased": 1.0})) is None


def test_signs_flip_by_person():
    one = people({"erased": 1.0, "control-0": 0.0})
    assert sign_flip_p(one) == pytest.approx(0.5)
