"""Statistics against closed forms, published golden values and properties."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, binomtest, multinomial

from expunge.metrics import statistics
from expunge.metrics.outcomes import Status
from expunge.metrics.statistics import Estimate, Sample


def sample(values, clusters=None, stream=0) -> Sample:
    names = clusters or tuple(f"c{index}" for index in range(len(values)))
    return Sample(np.array(values, dtype=float), tuple(names), stream)


@pytest.mark.parametrize(
    ("n", "bound"), [(20, 0.139), (32, 0.089), (128, 0.023), (299, 0.010), (400, 0.0075)]
)
def test_zero_leaks_of_n_bound_the_rate(n, bound):
    low, high = statistics.clopper_pearson(0, n)
    assert low == 0
    assert high == pytest.approx(bound, abs=5e-4)
    assert high == pytest.approx(1 - 0.05 ** (1 / n))


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 20), (1, 20), (7, 30), (30, 30), (399, 400)])
def test_clopper_pearson_equals_the_exact_interval_of_scipy(k, n):
    exact = binomtest(k, n).proportion_ci(confidence_level=0.90, method="exact")
    assert statistics.clopper_pearson(k, n) == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_clopper_pearson_takes_events_in_part():
    low, high = statistics.clopper_pearson(1.5, 20)
    assert (low, high) == pytest.approx((beta.ppf(0.05, 1.5, 19.5), beta.ppf(0.95, 2.5, 18.5)))


@pytest.mark.parametrize(("k", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_a_rate_needs_sensible_counts(k, n):
    with pytest.raises(ValueError, match="is not a rate"):
        statistics.clopper_pearson(k, n)


@pytest.mark.parametrize(("margin", "n"), [(0.10, 29), (0.05, 59), (0.01, 299), (0.001, 2995)])
def test_facts_that_prove_a_zero_leak_claim(margin, n):
    assert statistics.zero_events_needed(margin) == n


@pytest.mark.parametrize("n", [1, 10, 20, 58, 200])
def test_binomial_tolerance_is_the_smallest_sufficient_count(n):
    count = statistics.binomial_tolerance(n, 0.05)
    assert binom.cdf(count, n, 0.05) >= 0.95
    assert count == 0 or binom.cdf(count - 1, n, 0.05) < 0.95


def test_auc_of_the_reference_example():
    members, others = -np.array([1, 1.2, 2]), -np.array([1.5, 2.5, 3])
    assert statistics.auc(members, others) == pytest.approx(8 / 9)
    assert statistics.auc(others, members) == pytest.approx(1 / 9)
    assert statistics.auc(members, members) == 0.5
    with pytest.raises(ValueError, match="both sides"):
        statistics.auc(members, np.array([]))


def test_auc_interval_covers_and_is_paired():
    rng = np.random.default_rng(0)
    members, others = sample(rng.normal(1, 1, 60)), sample(rng.normal(0, 1, 60), stream=1)
    found = statistics.auc_interval(members, others, seed=3)
    assert found.low < 0.76 < found.high  # Phi(1 / sqrt 2)
    # The same scores shifted keep every rank: the paired difference is exactly zero.
    again = statistics.auc_draws(
        members._replace(values=members.values + 5),
        others._replace(values=others.values + 5),
        seed=3,
    )
    assert np.array_equal(again, statistics.auc_draws(members, others, seed=3))


def test_resampling_draws_whole_clusters():
    clusters = tuple(f"s{index // 4}" for index in range(24))
    weights = statistics.resample(clusters, seed=1).reshape(statistics.DRAWS, 6, 4)
    assert (weights == weights[:, :, :1]).all()
    assert (weights[:, :, 0].sum(axis=1) == 6).all()


def test_one_cluster_resamples_records():
    weights = statistics.resample(("s",) * 8, seed=1)
    assert (weights.sum(axis=1) == 8).all()
    assert len(np.unique(weights, axis=0)) > 100


def test_two_clusters_resample_records_within():
    """Two clusters of equal means have no variance between them, and still an interval."""
    values = [0.0, 1.0] * 6
    clusters = ("a",) * 6 + ("b",) * 6
    found = statistics.mean_interval(sample(values, clusters), seed=0)
    assert found.high - found.low > 0.2


def test_resampling_is_seeded_and_streams_differ():
    clusters = tuple("abcdefgh")
    first = statistics.resample(clusters, seed=1)
    statistics._weights.cache_clear()
    assert np.array_equal(first, statistics.resample(clusters, seed=1))
    assert not np.array_equal(first, statistics.resample(clusters, seed=2))
    assert not np.array_equal(first, statistics.resample(clusters, seed=1, stream=1))
    with pytest.raises(ValueError, match="zero records"):
        statistics.resample((), seed=1)


def test_cluster_intervals_are_wider_when_clusters_matter():
    values = [float(index // 5 % 2) for index in range(100)]
    clusters = tuple(f"s{index // 5}" for index in range(100))
    whole = statistics.mean_interval(sample(values, clusters), seed=0)
    single = statistics.mean_interval(sample(values), seed=0)
    assert whole.high - whole.low > 1.5 * (single.high - single.low)


def test_mean_interval_matches_the_normal_approximation():
    values = np.random.default_rng(5).normal(size=400)
    found = statistics.mean_interval(sample(values), seed=0)
    half = 1.96 * values.std() / 20
    assert found.high - found.value == pytest.approx(half, rel=0.12)
    assert found.value - found.low == pytest.approx(half, rel=0.12)


@given(st.lists(st.tuples(st.floats(0.6, 1), st.floats(0, 0.4)), min_size=3, max_size=20))
@settings(max_examples=20, deadline=None)
def test_recovery_is_one_at_the_original_and_zero_at_gold(pairs):
    known, never = sample([o for o, _ in pairs]), sample([g for _, g in pairs])
    at_original = statistics.recovery(known, never, original=known, floor=never, seed=0)
    at_gold = statistics.recovery(never, never, original=known, floor=never, seed=0)
    assert at_original == pytest.approx((1, 1, 1))
    assert at_gold == pytest.approx((0, 0, 0))


def test_recovery_is_a_ratio_of_means():
    known, never = sample([1.0, 0.5]), sample([0.0, 0.1])
    found = statistics.recovery(sample([0.5, 0.1]), never, original=known, floor=never, seed=0)
    assert found.value == pytest.approx(0.5 / 1.4)
    below = statistics.recovery(sample([-1.0, -1.0]), never, original=known, floor=never, seed=0)
    assert below == (0, 0, 0)


def test_recovery_refuses_an_original_that_knows_nothing():
    same = sample([0.1, 0.2])
    with pytest.raises(ValueError, match="no more than its anchor"):
        statistics.recovery(same, same, original=same, floor=same, seed=0)


@pytest.mark.parametrize(
    ("subject", "anchor", "value", "high"),
    [
        ([0] * 20, [0] * 20, 0.0, 0.139),
        ([0] * 20, [1] + [0] * 19, -0.05, 0.139),
        ([1] + [0] * 19, [0] * 20, 0.05, 0.216),
        # One record each way says no more than one record: 4.74 - 1 of 60, and a little.
        ([1, 0] + [0] * 58, [0, 1] + [0] * 58, 0.0, 0.062),
        ([1, 0] + [0] * 58, [0, 0.5] + [0] * 58, 1 / 120, 0.0689),
        ([1] + [0] * 59, [0.5] + [0] * 59, 1 / 120, 0.063),  # half an event: 3.91 of 60, at most
        ([1] + [0] * 59, [0] + [1] * 9 + [0] * 50, -8 / 60, 0.0487),  # no less than without the one
        # Large requests pass a margin of 5 % although a few records change both ways.
        ([1, 1, 0, 0] + [0] * 396, [0, 0, 1, 1] + [0] * 396, 0.0, 0.0114),
        ([1] * 5 + [0] * 395, [0] * 5 + [1] * 5 + [0] * 390, 0.0, 0.0156),
    ],
)
def test_excess_rate_takes_exact_bounds_for_rare_events(subject, anchor, value, high):
    found = statistics.excess_rate(sample(subject), sample(anchor), seed=0)
    assert found.value == pytest.approx(value)
    assert found.high == pytest.approx(high, abs=1e-3)
    assert found.low <= found.value <= found.high


SMALLEST = 0.03
"""The smallest margin of the policy."""


@pytest.mark.parametrize("n", [60, 200])
@pytest.mark.parametrize(
    "events",
    [
        {1.0: 3.0, -1.0: 0.7},
        {1.0: 6.0, -1.0: 1.5},
        {1.0: 3.7, -1.0: 0.7},
        {1.0: 8.5, -1.0: 2.5},
        {1.0: 2.5, -1.0: 2.5},
        {1.0: 1.5, -1.0: 0.7},
        {1.0: 1.0, -1.0: 4.0},
        {1.0: 2.0, 0.5: 1.0},
        {1.0: 1.0, 0.5: 2.0, -0.5: 1.0},  # two golds: facts that one of them guesses
    ],
    ids=str,
)
def test_bounds_of_an_excess_rate_cover_at_95_percent(n, events):
    """Not simulated but summed over all counts: how often the true difference lies outside.

    The lower bound decides against margins, so it is held to differences as large as the smallest.
    """
    rates = np.array(list(events.values())) / n
    truth = float(np.dot(list(events), rates))
    below = above = 0.0
    for counts in product(*(range(int(mean + 5 * mean**0.5 + 4)) for mean in events.values())):
        chance = float(multinomial.pmf([*counts, n - sum(counts)], n, [*rates, 1 - rates.sum()]))
        if chance < 1e-6:
            continue
        changes = np.repeat([*events, 0.0], [*counts, n - sum(counts)])
        subject = (changes > 0).astype(float)
        found = statistics.excess_rate(sample(subject), sample(subject - changes), seed=0)
        below += chance * (found.high < truth)
        above += chance * (found.low > truth >= SMALLEST)
    assert max(below, above) <= 0.0501


def test_measurements_that_all_change_a_little_are_left_to_the_bootstrap():
    """Sixty probabilities that move by 2 points are no event of unknown rarity."""
    rng = np.random.default_rng(0)
    before = rng.uniform(0.5, 0.9, 60)
    found = statistics.excess_rate(sample(before + rng.normal(0, 0.02, 60)), sample(before), seed=0)
    assert -0.01 < found.low < found.high < 0.01


def test_excess_rate_over_unpaired_controls():
    found = statistics.excess_rate(sample([0] * 20), sample([0] * 10, stream=1), seed=0)
    assert found == pytest.approx((0, 0, 0.139), abs=1e-3)


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [
        (0.0, 0.09, Status.PASS),
        (0.0, 0.10, Status.PASS),
        (0.05, 0.15, Status.INCONCLUSIVE),
        (0.11, 0.30, Status.FAIL),
    ],
)
def test_non_inferiority(low, high, status):
    assert statistics.judge(low, high, 0.10) is status


@pytest.mark.parametrize(
    ("estimate", "needed"),
    [
        (Estimate(0.05, 0.0, 0.15), 60),  # twice too wide: four times the records
        (Estimate(0.20, 0.0, 0.30), 60),
        (Estimate(0.05, 0.0, 0.08), 0),
        (Estimate(0.10, 0.0, 0.20), None),
        (Estimate(0.09, 0.0, 0.189), 1941),  # 9.9 times too wide
        (Estimate(0.09, 0.0, 0.191), None),
    ],
)
def test_records_needed(estimate, needed):
    assert statistics.records_needed(estimate, 0.10, 20) == needed
