"""Membership inference: one sign for all attacks, and known answers."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.evidence.store import Scores
from expunge.metrics import duci, membership, rmia
from expunge.metrics import membership as relative
from expunge.metrics.lira import Normal, fit, leave_one_out, log_likelihood_ratio, logit, ratios
from expunge.metrics.membership import (
    comparable,
    dataset_inference,
    empirical_epsilon,
    matched,
    measurable_rate,
    tpr_at_fpr,
    word_scores,
)
from expunge.metrics.statistics import auc

RNG = np.random.default_rng(5)


def scored(level: float, *, length: int = 30) -> Scores:
    logp = tuple(float(-level * x) for x in RNG.exponential(1.0, length))
    z = tuple(value + 2.0 for value in logp)
    return Scores(record="r", logp=logp, hit=(False,) * length, z=z, ends=False, zlib=40)


def mean(row: Scores) -> float:
    return sum(row.logp) / len(row.logp)


RARE = [3.0, None] * 15
ATTACKS: dict[str, Callable[[float], float | None]] = {
    "loss": lambda level: membership.loss(scored(level)),
    "zlib": lambda level: membership.zlib(scored(level)),
    "min-k": lambda level: membership.min_k(scored(level)),
    "min-k-plus": lambda level: membership.min_k_plus(scored(level)),
    "reference": lambda level: relative.reference(mean(scored(level)), mean(scored(2.0))),
    "lowercase": lambda level: relative.lowercase(mean(scored(level)), mean(scored(2.0))),
    "neighbourhood": lambda level: relative.neighbourhood(
        mean(scored(level)), [mean(scored(2.0)), mean(scored(2.0))]
    ),
    "gradient": lambda level: relative.gradient(-2 * mean(scored(level))),
    # A prefix of strangers brings members down to the level of everyone.
    "recall": lambda level: relative.recall(mean(scored(level)), mean(scored(2.0))),
    "dc-pdd": lambda level: relative.dc_pdd(scored(level).logp, RARE, cap=math.inf),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_says_that_higher_means_member(name):
    members = np.array([ATTACKS[name](0.7) for _ in range(80)])
    others = np.array([ATTACKS[name](2.0) for _ in range(80)])
    assert auc(members, others) > 0.9


def test_auc_of_the_reference_example():
    losses = (np.array([1.0, 1.2, 2.0]), np.array([1.5, 2.5, 3.0]))
    assert auc(-losses[0], -losses[1]) == pytest.approx(8 / 9)
    assert auc(losses[0], losses[0]) == 0.5


def test_min_k_plus_of_the_reference_example():
    p = np.array([0.7, 0.2, 0.1])
    mu = float((p * np.log(p)).sum())
    sd = math.sqrt(float((p * np.log(p) ** 2).sum()) - mu**2)
    assert mu == pytest.approx(-0.8018, abs=1e-4)
    assert sd == pytest.approx(0.7031, abs=1e-4)
    z = [(math.log(x) - mu) / sd for x in (0.2, 0.7)]
    assert z == pytest.approx([-1.149, 0.633], abs=1e-3)
    row = Scores(record="r", logp=(-1.0, -1.0), hit=(True,) * 2, z=tuple(z), ends=False, zlib=1)
    assert membership.min_k_plus(row, share=0.5) == pytest.approx(z[0])


def test_relative_scores_by_hand():
    assert relative.reference(-1.0, -1.5) == 0.5
    assert relative.lowercase(-1.0, -3.0) == 2.0
    assert relative.neighbourhood(-1.0, [-2.0, -4.0]) == 2.0
    assert relative.neighbourhood(-1.0, []) is None
    assert relative.recall(-1.0, -1.5) == 1.5
    assert relative.recall(0.0, -1.5) is None
    assert relative.gradient(3.0) == -3.0


def test_dc_pdd_by_hand():
    logp = (math.log(0.5), math.log(0.1))
    assert relative.dc_pdd(logp, (0.01, 0.02)) == pytest.approx((0.005 + 0.002) / 2)
    assert relative.dc_pdd(logp, (1.0, None)) == 0.01  # capped; the repeated token is left out
    assert relative.dc_pdd(logp, (None, None)) is None
    assert relative.first_occurrences([4, 7, 4]) == [True, True, False]
    found = relative.rarities([1, 9], {1: 3, 2: 1}, vocabulary=6)
    assert found == pytest.approx([math.log(10 / 4), math.log(10)])


@pytest.mark.parametrize(
    ("others", "rate"), [(19, None), (20, 0.10), (99, 0.10), (100, 0.05), (1000, 0.01)]
)
def test_what_rate_the_others_can_measure(others, rate):
    assert measurable_rate(others) == rate


def test_true_positives_at_few_false_ones():
    others = list(range(100))
    assert tpr_at_fpr([98.5, 94.5, 3.0], others, 0.05) == pytest.approx(2 / 3)
    assert tpr_at_fpr([94.0], others, 0.05) == 0.0
    assert tpr_at_fpr(others, others, 0.05) == pytest.approx(0.05)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=50), st.floats(0.01, 0.5))
def test_the_false_positive_rate_is_kept(others, rate):
    assert tpr_at_fpr(others, others, rate) <= rate + 1e-9


def test_empirical_epsilon():
    found = empirical_epsilon(10, 100, 1, 100, exact=False)
    assert found == pytest.approx(math.log(10), abs=1e-9)
    assert empirical_epsilon(10, 100, 1, 100) < found
    assert empirical_epsilon(5, 100, 5, 100, exact=False) == 0.0
    assert empirical_epsilon(0, 10, 0, 10) == 0.0


def test_likelihood_ratio_of_the_reference_example():
    found = log_likelihood_ratio(-0.5, Normal(0.0, 1.0), Normal(-1.5, 1.0))
    assert math.exp(found) == pytest.approx(1.4550, abs=1e-4)
    assert logit(0.5) == 0.0
    assert math.isfinite(logit(1.0))
    assert fit(np.array([1.0, 1.0])).sd > 0
    with pytest.raises(ValueError, match="two shadow models"):
        fit(np.array([1.0]))


def test_shadow_models_judge_each_other():
    rng = np.random.default_rng(0)
    unseen = rng.normal(-2.0, 1.0, (16, 40))
    leaky, clean = rng.normal(2.0, 1.0, (16, 40)), rng.normal(-2.0, 1.0, (16, 40))
    members, others = leave_one_out(leaky, unseen)
    assert tpr_at_fpr(members.ravel(), others.ravel(), 0.01) > 0.8
    members, others = leave_one_out(clean, unseen)
    assert auc(members.ravel(), others.ravel()) == pytest.approx(0.5, abs=0.06)
    judged = ratios(np.full(40, 2.0), leaky, unseen)
    assert (judged > 0).mean() > 0.9
    with pytest.raises(ValueError, match="same records"):
        ratios(np.zeros(3), leaky, unseen)


def test_dataset_inference_finds_a_trained_set_and_no_other():
    rng = np.random.default_rng(1)
    seen = rng.normal(0.8, 1.0, (120, 4))
    assert dataset_inference(seen, rng.normal(0.0, 1.0, (120, 4)), seed=0) < 1e-3
    null = [
        dataset_inference(rng.normal(size=(40, 4)), rng.normal(size=(40, 4)), seed=seed)
        for seed in range(200)
    ]
    assert np.mean(np.array(null) < 0.1) == pytest.approx(0.1, abs=0.06)
    assert dataset_inference(seen[:7], seen, seed=0) is None
    assert dataset_inference(np.ones((20, 2)), np.ones((20, 2)), seed=0) == 1.0


def test_a_holdout_on_another_topic_is_recognised_by_its_words():
    novels = [f"The novelist {name} wrote a book about the sea" for name in "abcdefghij"]
    films = [f"The director {name} made a film about the war" for name in "klmnopqrst"]
    found = word_scores(
        novels, films, member_groups=list("abcdefghij"), other_groups=list("klmnopqrst"), seed=0
    )
    assert auc(found.members, found.others) == 1.0


def test_names_do_not_give_a_holdout_away():
    people = [f"person{i}" for i in range(20)]
    texts = [f"{person} likes tea" for person in people for _ in range(4)]
    groups = [person for person in people for _ in range(4)]
    found = word_scores(
        texts[:40], texts[40:], member_groups=groups[:40], other_groups=groups[40:], seed=3
    )
    assert auc(found.members, found.others) == pytest.approx(0.5, abs=0.1)
    assert (
        word_scores(["a"], ["b", "c"], member_groups=["x"], other_groups=["y", "z"], seed=0) is None
    )


@pytest.mark.parametrize(
    ("value", "low", "high", "n", "good"),
    [
        (0.52, 0.47, 0.57, 400, True),
        (0.56, 0.49, 0.63, 400, False),  # outside 0.45-0.55
        (0.53, 0.51, 0.55, 400, False),  # certainly not chance
        (0.60, 0.40, 0.80, 20, True),  # few records leave that range by chance
    ],
)
def test_when_a_holdout_is_comparable(value, low, high, n, good):
    assert comparable(value, low, high, n=n) is good


def test_matching_by_difficulty():
    assert matched([-1.0, -3.0], [-2.98, -1.04, -9.0]) == [(1, 0), (0, 1)]
    assert matched([-1.0], [-1.2]) == []


@given(st.lists(st.floats(-3, 0), max_size=15), st.lists(st.floats(-3, 0), max_size=15))
def test_matches_are_one_to_one_and_within_the_caliper(members, others):
    pairs = matched(members, others)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    assert all(abs(members[i] - others[j]) <= 0.05 + 1e-12 for i, j in pairs)


def half_trained(share: float, seed: int) -> tuple[float, float, float]:
    """Estimate the share of 60 records that a simulated model saw, by 8 half-trained models.

    A record is 3 nats likelier where it was seen, as hard for all models, and 40 more were unseen.
    """
    rng = np.random.default_rng(seed)
    hard = rng.normal(-4.0, 1.0, 100)
    pairs = [rng.permutation(100) < 50 for _ in range(4)]
    saw = np.array([side for first in pairs for side in (first, ~first)])
    models = hard + 3.0 * saw + rng.normal(0, 0.5, saw.shape)
    own = hard + 3.0 * (np.arange(100) < 60 * share) + rng.normal(0, 0.5, 100)

    def scores(logp, references, unseen):
        found = rmia.ratios(logp, references)
        return rmia.scores(found[:60], found[60:][unseen[60:]])

    sides = ([], [])
    for index, row in enumerate(models):
        others = np.delete(models, (index, index ^ 1), axis=0)
        for value, seen in zip(scores(row, others, ~saw[index]), saw[index], strict=False):
            sides[not seen].append(value)
    judged = scores(own, models, np.full(100, True))
    return duci.share_in(judged, *map(np.array, sides), seed=seed)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 1.0])
def test_the_share_that_a_model_saw_is_estimated(share):
    found = [half_trained(share, seed) for seed in range(20)]
    assert abs(np.mean([each.value for each in found]) - share) < 0.05
    assert sum(each.low <= share <= each.high for each in found) >= 17


def test_references_that_cannot_tell_what_they_saw_estimate_nothing():
    alike = np.linspace(0, 1, 20)
    assert duci.share_in(alike, alike, alike, seed=0) is None
