"""Metrics of what else changed, against values computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.metrics.efficiency import Work, flops, speed_up
from expunge.metrics.fluency import ngram_entropy
from expunge.metrics.model_drift import (
    churn,
    distance_response,
    divergence,
    weight_change,
    word_distances,
)
from expunge.metrics.multiple_choice import brier, expected_calibration_error


def test_quantiles_of_divergence():
    found = divergence(list(range(101)))
    assert found == (50.0, 95.0)
    assert divergence([]) is None


def test_calibration_of_the_reference_example():
    assert expected_calibration_error((0.9, 0.9, 0.6, 0.6), (1, 0, 1, 1)) == pytest.approx(0.4)
    assert expected_calibration_error((1.0, 0.0), (1, 0)) == 0.0
    with pytest.raises(ValueError, match="confidence"):
        expected_calibration_error((), ())


def test_calibration_of_a_calibrated_model():
    rng = np.random.default_rng(0)
    sure = rng.random(20_000)
    right = (rng.random(20_000) < sure).astype(float)
    assert expected_calibration_error(sure, right) < 0.02
    assert expected_calibration_error(sure, np.zeros(20_000)) == pytest.approx(0.5, abs=0.02)


def test_brier():
    assert brier((1.0, 0.0), 0) == 0.0
    assert brier((0.5, 0.5), 0) == pytest.approx(0.5)


def test_nearest_bins_come_first():
    rings = distance_response((0.9, 0.1, 0.5, 0.2), (0.0, 0.4, 0.01, 0.2), bins=4)
    assert [(ring.distance, ring.damage, ring.n) for ring in rings] == [
        (0.1, 0.4, 1),
        (0.2, 0.2, 1),
        (0.5, 0.01, 1),
        (0.9, 0.0, 1),
    ]
    assert distance_response((), ()) == ()


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-1, 1)), min_size=1, max_size=40))
def test_every_record_lies_in_one_bin(pairs):
    rings = distance_response([d for d, _ in pairs], [x for _, x in pairs])
    assert sum(ring.n for ring in rings) == len(pairs)
    total = math.fsum(ring.damage * ring.n for ring in rings)
    assert total == pytest.approx(math.fsum(x for _, x in pairs), abs=1e-9)
    assert [ring.distance for ring in rings] == sorted(ring.distance for ring in rings)


def test_distance_counts_rare_words_most():
    targets = ["Where was Amara Okafor born?", "Where does Amara Okafor live?"]
    same, kin, other, none = word_distances(
        [
            "Where was Amara Okafor born?",
            "Who is the sister of Amara Okafor?",
            "Where was Bela Szabo born?",
            "Name three prime numbers.",
        ],
        targets,
    )
    assert same == pytest.approx(0.0, abs=1e-9)
    assert same < kin < 1.0
    assert none == 1.0
    assert other < 1.0
    with pytest.raises(ValueError, match="distant from"):
        word_distances(["x"], [])


def test_efficiency():
    assert flops(10, Work(forward=1, trained=1, trained_lora=1, generated=1)) == 140.0
    assert speed_up(100.0, 20.0) == 5.0
    with pytest.raises(ValueError, match="positive"):
        speed_up(0.0, 1.0)


def test_churn_shows_what_the_mean_hides():
    found = churn((1, 1, 0, 0), (1, 0, 1, 0))
    assert (found.lost, found.gained, found.total) == (0.25, 0.25, 0.5)
    assert churn((), ()) is None


@pytest.mark.parametrize(
    ("text", "bits"),
    [("a b a b a b a b", 0.9852), ("a b c d e f g h", 2.8074), ("a", 0.0), ("", 0.0)],
)
def test_entropy_of_bigrams(text, bits):
    assert ngram_entropy(text, 2) == pytest.approx(bits, abs=1e-4)


def test_weight_changes():
    before = np.array([[3.0, 0.0], [0.0, 4.0]], dtype=np.float32)
    one = before + np.array([[0.5, 0.0], [0.0, 0.0]], dtype=np.float32)
    assert weight_change(before, one) == pytest.approx((0.1, 0.25, 1.0))
    both = before + np.eye(2, dtype=np.float32)
    assert weight_change(before, both).rank == pytest.approx(2.0)
    assert weight_change(before, before) == (0.0, 0.0, 0.0)
    assert weight_change(np.zeros(2, np.float32), np.ones(2, np.float32)) == (1.0, 1.0, 0.0)
