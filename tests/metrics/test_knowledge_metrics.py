"""Metrics of what a model still knows, against values computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.evidence.store import Scores
from expunge.metrics.bbq import ambiguous_bias, disambiguated_bias
from expunge.metrics.erasure_depth import erasure_depth
from expunge.metrics.exposure import (
    UNSEEN,
    exposure,
    exposure_by_rank,
    mean_exposure_bound,
)
from expunge.metrics.memorization import (
    chance_within,
    discoverable,
    leak_at_k,
    near_verbatim,
    samples_needed,
    sequence_log_probability,
    verbatim,
)
from expunge.metrics.multiple_choice import (
    choice_accuracy,
    option_probability,
)
from expunge.metrics.muse import privacy_closeness, privleak
from expunge.metrics.tofu import (
    Utility,
    distance_share,
    equivalence_p,
    forget_quality,
    forget_truth,
    harmonic_mean,
    ks_distance,
    model_utility,
    truth_ratio,
    truth_share,
    utility_truth,
)
from expunge.metrics.toxicity import any_toxic, maximum_toxicity

LOG = [math.log(p) for p in (0.1, 0.2, 0.4)]


def scored(*logp: float, hit: tuple[bool, ...] = (), ends: bool = False) -> Scores:
    return Scores(record="r", logp=logp, hit=hit or (False,) * len(logp), z=logp, ends=ends, zlib=9)


def test_truth_ratio_of_the_reference_example():
    ratio = truth_ratio(math.log(0.4), LOG)
    assert ratio == pytest.approx(0.5, abs=1e-4)
    assert truth_ratio(math.log(0.4), LOG, average="arithmetic") == pytest.approx(0.5833, abs=1e-4)
    assert truth_share(math.log(0.4), LOG) == pytest.approx(0.6667, abs=1e-4)
    assert utility_truth(ratio) == pytest.approx(0.5, abs=1e-4)
    assert forget_truth(ratio) == pytest.approx(0.5) == forget_truth(2.0)
    assert utility_truth(1.7) == 0.0
    assert truth_ratio(-1.0, []) is None
    assert truth_share(-1.0, []) is None


@given(st.floats(-8, 0), st.lists(st.floats(-8, 0), min_size=1, max_size=6))
def test_the_share_falls_as_the_ratio_rises(correct, wrong):
    share, ratio = truth_share(correct, wrong), truth_ratio(correct, wrong)
    assert share == pytest.approx(1 / (1 + ratio))
    assert truth_ratio(correct, wrong, average="arithmetic") >= ratio - 1e-9


@pytest.mark.parametrize(
    ("correct", "wrong", "value"),
    [(0.4, (0.1, 0.2, 0.1), 0.5), (0.2, (0.2,), 0.5), (0.3, (0.1, 0.1, 0.1), 0.5)],
)
def test_probability_among_options(correct, wrong, value):
    found = option_probability(math.log(correct), [math.log(p) for p in wrong])
    assert found == pytest.approx(value)
    assert option_probability(math.log(correct), []) is None


@pytest.mark.parametrize(
    ("logps", "right", "value"),
    [
        ((-1.0, -2.0, -3.0), 0, 1.0),
        ((-1.0, -2.0, -3.0), 2, 0.0),
        ((-1.0, -1.0, -3.0), 1, 0.5),
        ((-1.0,), 0, None),
    ],
)
def test_choice(logps, right, value):
    assert choice_accuracy(logps, right) == value


@pytest.mark.parametrize(("p", "half", "most"), [(0.01, 69, 230), (0.001, 693, 2302), (1.0, 1, 1)])
def test_samples_needed_of_the_reference_example(p, half, most):
    assert samples_needed(math.log(p), 0.5) == half
    assert samples_needed(math.log(p), 0.9) == most


@given(st.floats(1e-4, 0.99), st.floats(0.05, 0.95))
def test_the_number_of_samples_is_the_smallest_that_does(p, chance):
    n = samples_needed(math.log(p), chance)
    assert chance_within(math.log(p), int(n)) >= chance - 1e-6
    assert n == 1 or chance_within(math.log(p), int(n) - 1) < chance + 1e-6


def test_samples_of_what_cannot_be_said():
    assert samples_needed(-1e9, 0.5) == math.inf
    with pytest.raises(ValueError, match="between 0 and 1"):
        samples_needed(-1.0, 1.0)


def test_the_chance_of_extraction_is_that_of_sampling():
    rng = np.random.default_rng(0)
    p, n, draws = 0.05, 20, 20000
    seen = float((rng.random((draws, n)) < p).any(axis=1).mean())
    assert chance_within(math.log(p), n) == pytest.approx(seen, abs=4 * 0.5 / math.sqrt(draws))


def test_discoverable_extraction():
    row = scored(math.log(0.1), math.log(0.1), -50.0, ends=True)
    assert sequence_log_probability(row) == pytest.approx(math.log(0.01))
    assert discoverable(row, n=69) == 1.0
    assert discoverable(row, n=68) == 0.0
    assert discoverable(scored()) is None
    assert near_verbatim([math.log(0.1), math.log(0.2)]) == pytest.approx(0.3)
    assert near_verbatim([math.log(0.1), math.log(0.2)], n=2) == pytest.approx(0.51)
    assert near_verbatim([]) == 0.0


def test_verbatim_extraction_reads_the_suffix_only():
    row = scored(*[-1.0] * 5, hit=(False, False, True, True, False))
    assert verbatim(row, prefix=2, suffix=2) == 1.0
    assert verbatim(row, prefix=2, suffix=3) == 0.0
    assert verbatim(row, prefix=3, suffix=3) is None


@pytest.mark.parametrize(("rank", "bits"), [(1, 19.9316), (500_000, 1.0), (1_000_000, 0.0)])
def test_exposure_of_the_reference_example(rank, bits):
    assert exposure(rank, 1e6) == pytest.approx(bits, abs=1e-4)


def test_exposure_of_ranks():
    assert exposure_by_rank(-1.0, [-2.0, -3.0, -4.0]) == pytest.approx(2.0)
    assert exposure_by_rank(-1.0, [-1.0, -1.0, -4.0]) == pytest.approx(1.0)
    mean = np.mean([exposure(rank, 10_000) for rank in range(1, 10_001)])
    assert mean == pytest.approx(UNSEEN, abs=0.01) == pytest.approx(1.4427, abs=1e-4)
    with pytest.raises(ValueError, match="rank"):
        exposure(0, 10)


def test_the_bound_of_mean_exposure_holds_under_the_null():
    rng = np.random.default_rng(2)
    unseen = -np.log2(rng.random((4000, 10)))
    assert (unseen.mean(axis=1) > mean_exposure_bound(10)).mean() == pytest.approx(0.05, abs=0.012)


def test_leak_at_k_of_the_reference_example():
    assert leak_at_k(32, 2, 8) == pytest.approx(0.4435, abs=1e-4)
    assert leak_at_k(32, 0, 8) == 0.0
    assert leak_at_k(32, 32, 1) == 1.0
    with pytest.raises(ValueError, match="leak@33"):
        leak_at_k(32, 2, 33)


@given(st.integers(1, 40), st.data())
def test_leak_at_k_rises_with_k_and_at_one_is_the_rate(n, data):
    leaks = data.draw(st.integers(0, n))
    values = [leak_at_k(n, leaks, k) for k in range(1, n + 1)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(leaks / n)
    assert values[-1] == float(leaks > 0)


LADDER = {
    0.125: 0.919,
    0.15: 0.766,
    0.175: 0.579,
    0.2: 0.405,
    0.225: 0.266,
    0.25: 0.165,
    0.275: 0.0971,
    0.3: 0.0541,
    0.4: 0.00302,
    0.425: 0.00127,
    0.475: 1.88e-4,
}


@pytest.mark.parametrize(("distance", "p"), LADDER.items())
def test_forget_quality_of_40_records_stands_on_a_ladder(distance, p):
    shift = round(distance * 40)
    first, second = np.arange(40.0), np.arange(40.0) + shift - 0.5
    found = forget_quality(first, second)
    assert found.distance == pytest.approx(distance)
    assert found.p == pytest.approx(p, rel=5e-3)
    assert found.n == 40


@pytest.mark.parametrize(("n", "p"), [(40, 1.86e-23), (200, 1.94e-119), (400, 1.06e-239)])
def test_complete_separation(n, p):
    found = forget_quality(np.arange(n) * 1.0, np.arange(n) + 1000.0)
    assert found.distance == 1.0
    assert found.p == pytest.approx(p, rel=5e-3)
    exact = 2 / math.comb(2 * n, n)
    assert found.p == pytest.approx(exact, rel=1e-6)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=20), st.data())
def test_forget_quality_does_not_care_which_way_up_the_ratio_stands(ratios, data):
    other = data.draw(st.lists(st.floats(0.01, 10), min_size=1, max_size=20))
    turned = ks_distance([1 / r for r in ratios], [1 / r for r in other])
    assert ks_distance(ratios, ratios) == 0.0
    assert ks_distance(ratios, other) == pytest.approx(turned)


def test_gold_against_itself():
    assert forget_quality([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).p == pytest.approx(1.0)


def test_distance_on_the_scale_from_original_to_gold():
    assert distance_share(0.4, 0.4) == 0.0
    assert distance_share(0.05, 0.4, noise=0.05) == 1.0
    assert distance_share(0.2, 0.05, noise=0.05) is None
    assert equivalence_p(0.02, 5000, 5000) < 0.05
    assert equivalence_p(0.02, 40, 40) > 0.5
    assert equivalence_p(0.2, 5000, 5000) == 1.0


def test_model_utility_is_ruined_by_one_zero():
    assert harmonic_mean([1.0, 0.5]) == pytest.approx(2 / 3)
    assert model_utility(Utility(0.5, 0.5, 0.5), Utility(0.5, 0.5, 0.5)) == pytest.approx(0.5)
    assert model_utility(Utility(1.0, 1.0, 0.0)) == 0.0


@pytest.mark.parametrize(
    ("auc", "gold", "value"),
    [
        (0.0009, 0.4772, -99.81),  # MUSE News, original
        (0.2305, 0.5393, -57.26),  # MUSE Books, original
        (0.4772, 0.4772, 0.0),
        (1.0, 0.4772, 109.6),  # the ceiling depends on gold
        (1.0, 0.5393, 85.4),
        (0.0, 0.5393, -100.0),
    ],
)
def test_privleak_of_published_models(auc, gold, value):
    assert privleak(auc, gold) == pytest.approx(value, abs=0.05)


def test_privacy_closeness():
    assert privacy_closeness([0.5, 0.4], [0.5, 0.4]) == 1.0
    assert privacy_closeness([0.25, 0.4], [0.5, 0.4]) == pytest.approx(2 / 3)
    assert privacy_closeness([1.0, 0.4], [0.5, 0.4]) == 0.0
    with pytest.raises(ValueError, match="gold"):
        privacy_closeness([0.5], [])


def test_erasure_depth_is_0_for_the_original_and_1_for_gold():
    gold = (0.0, 0.04, 1.0, 3.0)
    assert erasure_depth(gold, (0.0, 0.0, 0.0, 0.0)) == 0.0
    assert erasure_depth(gold, gold) == 1.0
    # Layers 2 and 3 hold it: (1 * 0.5 + 3 * 1) / 4, over-erasure clipped.
    assert erasure_depth(gold, (9.0, 9.0, 0.5, 7.0)) == pytest.approx(0.875)
    assert erasure_depth((0.0, 0.05), (1.0, 1.0)) is None
    with pytest.raises(ValueError, match="layers"):
        erasure_depth((1.0,), (1.0, 2.0))


@pytest.mark.parametrize(
    ("biased", "answered", "total", "s_dis", "s_amb"),
    [
        (4, 4, 4, 1.0, 1.0),  # every answer is the stereotype's
        (0, 4, 4, -1.0, -1.0),
        (2, 4, 4, 0.0, 0.0),  # answers by chance
        (3, 4, 8, 0.5, 0.25),
        (0, 0, 8, 0.0, 0.0),  # always unknown
    ],
)
def test_bias_scores_of_bbq(biased, answered, total, s_dis, s_amb):
    assert disambiguated_bias(biased, answered) == s_dis
    assert ambiguous_bias(biased, answered, total) == s_amb


@pytest.mark.parametrize(("biased", "answered", "total"), [(5, 4, 8), (1, 9, 8), (0, 0, 0)])
def test_counts_that_no_answers_have(biased, answered, total):
    with pytest.raises(ValueError, match="cannot be"):
        ambiguous_bias(biased, answered, total)


@pytest.mark.parametrize(
    ("samples", "maximum", "toxic"),
    [
        (["Good day."], 0.0, 0.0),
        (["Good day.", "IDIOT!", "You stupid, lazy fool."], 0.875, 1.0),
        (["Ye auld goose, whit's yon?"], 0.0, 0.0),  # dialect is no insult
        (["A foolproof plan."], 0.0, 0.0),  # whole words
        ([], None, None),
    ],
)
def test_toxicity_of_samples_by_the_word_list(samples, maximum, toxic):
    assert maximum_toxicity(samples) == maximum
    assert any_toxic(samples) == toxic
