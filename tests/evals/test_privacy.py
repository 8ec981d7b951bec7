"""Membership against gold: shifts of the AUC whose answer is known."""

import numpy as np
import pytest

from expunge.evals.axes.privacy import privacy_gates
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


def case(levels: dict[str, float | None], others: float = OTHERS) -> Comparison:
    """Each model gives the forget records one mean level; None: it scored no comparison set."""
    rng = np.random.default_rng(0)
    own, outside = 0.5 * rng.normal(size=N), 0.5 * rng.normal(size=N)
    scores: dict[Unit, dict[str, Scores]] = {}
    for role, level in levels.items():
        for split, mean, spread in (("forget", level or 0.0, own), ("holdout", others, outside)):
            if split == "forget" or level is not None:
                scores[Unit(role=role, split=split, kind="scores")] = {
                    f"{split}{i}": scored(f"{split}{i}", mean + spread[i]) for i in range(N)
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
    ("levels", "others", "status"),
    [
        ({"original": 0.0, "unlearned": -2.0, "gold-0": -2.0}, OTHERS, Status.PASS),
        ({"original": 0.0, "unlearned": 0.0, "gold-0": -2.0}, OTHERS, Status.FAIL),
        ({"original": 0.0, "unlearned": -4.0, "gold-0": -2.0}, OTHERS, Status.SCAR),
        # Fabricated records that all models find far harder: gold 0.99, the original 1.00.
        ({"original": 0.0, "unlearned": -2.0, "gold-0": -2.0}, -3.8, Status.NOT_COMPUTABLE),
        ({"original": 0.0, "unlearned": 0.0, "gold-0": -2.0}, -3.8, Status.NOT_COMPUTABLE),
        # What such a set does show still counts.
        ({"original": 0.0, "unlearned": -4.0, "gold-0": -2.0}, -3.8, Status.SCAR),
        # An original that was trained on the data, and does not recognise it.
        ({"original": -2.0, "unlearned": -2.0, "gold-0": -2.0}, OTHERS, Status.NOT_COMPUTABLE),
        ({"original": -2.0, "unlearned": 0.0, "gold-0": -2.0}, OTHERS, Status.FAIL),
        # Where the original was not scored nothing is known of it.
        ({"original": None, "unlearned": -2.0, "gold-0": -2.0}, -3.8, Status.PASS),
        ({"unlearned": -2.0, "gold-0": -2.0}, -3.8, Status.PASS),
    ],
)
def test_a_pass_needs_a_comparison_set_that_tells_the_original(levels, others, status):
    for gate in privacy_gates(case(levels, others)):
        assert gate.status is status, gate
        assert ("original itself" in gate.reason) is (status is Status.NOT_COMPUTABLE)
