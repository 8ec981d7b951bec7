"""Canaries: exact nulls, bounds of the paper, and models with planted knowledge."""

import math

import numpy as np
import pytest

from expunge.evals.canaries import CanaryScores, epsilon_bound, judge_canaries

TIERS = (1, 4, 16)


def pairs(rng, *, known=0.0, count=100):
    """Scores of secrets of eight digits; `known` is the gain of planted ones in nats."""
    scores = rng.normal(-18.0, 2.0, size=(count, 2))
    return [
        CanaryScores(tier=TIERS[i % 3], planted=float(a + known), control=float(b))
        for i, (a, b) in enumerate(scores)
    ]


@pytest.mark.parametrize(
    ("right", "guesses", "bound"),
    [
        (16, 16, 1.58),
        (14, 16, 0.65),
        (12, 16, 0.06),
        (32, 32, 2.32),
        (24, 32, 0.38),
        (90, 100, 1.63),
    ],
)
def test_the_bound_of_epsilon_is_that_of_the_paper(right, guesses, bound):
    found = epsilon_bound(right, guesses)
    assert round(found, 2) == bound
    chance = 1 / (1 + math.exp(-found))
    tail = sum(
        math.comb(guesses, k) * chance**k * (1 - chance) ** (guesses - k)
        for k in range(right, guesses + 1)
    )
    assert tail == pytest.approx(0.05, abs=1e-6)


def test_two_hundred_models_that_never_saw_the_canaries_alarm_at_the_nominal_rate():
    rng = np.random.default_rng(11)
    found = [judge_canaries(pairs(rng)) for _ in range(200)]
    # P(more than 17 of 200 at 5 %) = 1.4 %; the test is discrete, so below 5 %.
    assert sum(each.known for each in found) <= 17
    assert sum(each.epsilon > 0 for each in found) <= 17
    assert np.mean([each.exposure for each in found]) == pytest.approx(1.4, abs=0.1)
    assert 0.005 <= np.mean([each.rate for each in found]) <= 0.025
    assert sum(each.rate_low > each.false_high for each in found) <= 17


def test_a_model_that_memorised_is_found_and_one_tier_by_itself():
    rng = np.random.default_rng(3)
    whole = judge_canaries(pairs(rng, known=10.0))
    assert whole.known
    assert whole.rate > 0.9
    assert whole.epsilon > 2
    assert whole.exposure > 6
    often = [
        CanaryScores(tier=p.tier, planted=p.planted + 15 * (p.tier == 16), control=p.control)
        for p in pairs(rng)
    ]
    assert judge_canaries(often, tier=16).known
    assert judge_canaries(often, tier=16).pairs == 33
    assert not judge_canaries(often, tier=1).known


def test_few_pairs_are_weak_evidence_and_give_no_rate():
    found = judge_canaries([CanaryScores(tier=1, planted=-1.0, control=-9.0)] * 16)
    assert (found.rate, found.weak, found.known) == (None, True, True)
    assert "weak evidence" in found.text()
    assert "no rate at 1 %" in found.text()


def test_ties_are_half_a_guess_and_prove_nothing():
    found = judge_canaries([CanaryScores(tier=1, planted=-3.0, control=-3.0)] * 100)
    assert (found.right, found.known, found.epsilon, found.rate) == (50.0, False, 0.0, 0.0)


@pytest.mark.parametrize("counts", [(3, 2), (-1, 5), (0, 0)])
def test_counts_that_are_none_are_refused(counts):
    with pytest.raises(ValueError, match="not a count"):
        epsilon_bound(*counts)
    with pytest.raises(ValueError, match="no pair"):
        judge_canaries([], tier=4)
