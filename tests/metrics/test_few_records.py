"""Statistics for few records: closed forms, tables by hand, and rates on known noise."""

import math

import numpy as np
import pytest

from expunge.evidence.store import Answer, Item, Scores
from expunge.metrics.key_facts import says_wanted, wanted_spans
from expunge.metrics.membership import log_loss
from expunge.metrics.residual_memory import (
    ModelNoise,
    change_noise,
    kept_test,
    model_noise,
    residual_memory,
)
from expunge.metrics.statistics import mcnemar, rank_test, sign_flip

NOISE = ModelNoise(0.1, 0.0, 1000)


@pytest.mark.parametrize(
    ("more", "fewer", "rivals", "p"),
    [
        (5, 0, 1, 1 / 32),
        (6, 0, 1, 1 / 64),
        (7, 1, 1, 9 / 256),
        (8, 2, 1, 56 / 1024),
        (0, 9, 1, 1.0),
        (2, 0, 3, 1 / 16),  # one of four models, twice
    ],
)
def test_mcnemar_is_exact(more, fewer, rivals, p):
    assert mcnemar(more, fewer, rivals=rivals) == pytest.approx(p)


@pytest.mark.parametrize(
    ("differences", "clusters", "p"),
    [
        ([1.0, 2.0, 3.0, 1.0, 2.0], "abcde", 1 / 32),
        ([1.0, 2.0, 3.0], "aaa", 1 / 2),  # one person proves nothing
        ([-1.0, -2.0], "ab", 1.0),
        ([1.0, -1.0], "ab", 3 / 4),
        ([1.0, 1.0, -1.0, -1.0], "aabb", 3 / 4),  # people flip whole
    ],
)
def test_signs_flip_by_cluster(differences, clusters, p):
    assert sign_flip(np.array(differences), tuple(clusters)) == pytest.approx(p)


def test_many_clusters_are_drawn():
    many = np.full(40, 0.1)
    assert sign_flip(many, tuple(map(str, range(40)))) < 1e-4


@pytest.mark.parametrize(
    ("value", "controls", "p"),
    [(1.0, [0.0] * 19, 0.05), (0.0, [1.0] * 19, 1.0), (0.5, [0.5, 0.0], 2 / 3)],
)
def test_a_rank_counts_ties_against_the_person(value, controls, p):
    assert rank_test(value, controls) == pytest.approx(p)


@pytest.mark.parametrize(
    "call",
    [
        lambda: mcnemar(-1, 0),
        lambda: mcnemar(1, 1, rivals=0),
        lambda: sign_flip(np.array([]), ()),
        lambda: rank_test(1.0, []),
        lambda: residual_memory(np.zeros(3), np.zeros(2), np.zeros((1, 3)), NOISE),
        lambda: residual_memory(np.zeros(0), np.zeros(0), np.zeros((0, 0)), NOISE),
    ],
)
def test_what_is_no_sample_is_refused(call):
    with pytest.raises(ValueError, match="needs"):
        call()


def test_residual_memory_by_hand():
    """Three records: gold -2, original 0; the model keeps a quarter of the gap in the mean."""
    golds = np.array([[-1.0, -2.0, -3.0]])
    judged = np.array([-0.5, -2.0, -2.0])
    found = residual_memory(judged, np.zeros(3), golds, NOISE)
    assert found is not None
    assert (found.value, found.gap) == pytest.approx((0.25, 2.0))
    assert found.error == pytest.approx(0.1 * math.sqrt(2 / 3) / 2)
    assert found.low < 0.25 < found.high
    assert residual_memory(judged, golds[0], golds, NOISE) is None


@pytest.mark.parametrize(("share", "value"), [(0.0, 0.0), (0.2, 0.2), (1.0, 1.0)])
def test_residual_memory_is_the_share_that_is_left(share, value):
    rng = np.random.default_rng(0)
    golds, original = rng.normal(-2, 0.5, (3, 50)), rng.normal(-0.1, 0.01, 50)
    judged = (1 - share) * golds.mean(axis=0) + share * original
    found = residual_memory(judged, original, golds, NOISE)
    assert found is not None
    assert found.value == pytest.approx(value, abs=1e-9)
    assert found.p == pytest.approx(0.5 if value == 0 else 0.0, abs=1e-6)


def test_more_golds_narrow_the_residual_to_the_root_of_two():
    one, many = NOISE.of_mean(20, 1), NOISE.of_mean(20, 10_000)
    assert one / many == pytest.approx(math.sqrt(2), rel=1e-3)


def test_noise_is_measured_and_shifts_are_told_from_records():
    rng = np.random.default_rng(0)
    hard = rng.normal(-2, 1, 400)
    group = hard + rng.normal(0, 0.3, (4, 400)) + np.array([[0.0], [0.5], [-0.5], [0.2]])
    found = model_noise(group)
    assert found is not None
    assert found.record == pytest.approx(0.3, rel=0.05)
    assert found.model == pytest.approx(np.std([0.0, 0.5, -0.5, 0.2], ddof=1), rel=0.1)
    assert found.degrees == 3 * 399
    # The holdout records of two models count as the forget records of two golds do.
    pooled = model_noise(group[:2], group[2:])
    assert pooled is not None
    assert pooled.degrees == 2 * 399
    assert model_noise(hard[None, :]) is None
    moved = change_noise(group, group - 0.2)
    assert (moved.record, moved.model) == pytest.approx((0.0, 0.2), abs=1e-9)


def test_golds_are_seldom_called_kept_and_learnt_records_nearly_always():
    """300 sets of 20 records: one gold against another, then with one record learnt."""
    rng = np.random.default_rng(0)
    alarms = found = 0
    for _ in range(300):
        hard = rng.uniform(0.4, 3.0, 20)
        losses = hard * np.exp(rng.normal(0, 0.1, (2, 20)))
        judged, gold = -np.log(losses + 0.2)
        original = np.full(20, -math.log(0.02 + 0.2))
        noise = ModelNoise(0.1, 0.0, 40)
        alarms += kept_test(judged, original, gold[None, :], noise).kept(20).any()
        judged[0] = original[0]
        found += kept_test(judged, original, gold[None, :], noise).kept(20)[0]
    assert alarms <= 9, "1 % of sets, and not by luck"
    assert found >= 285


def test_a_record_below_the_middle_is_not_kept_however_sure_the_test():
    gold, original = np.array([[-1.0]]), np.array([0.0])
    sure = ModelNoise(1e-3, 0.0, 100)
    assert not kept_test(np.array([-0.9]), original, gold, sure).kept(1).any()
    assert kept_test(np.array([-0.3]), original, gold, sure).kept(1).all()


@pytest.mark.parametrize(
    ("logp", "value"), [((-0.8, -0.8, 0.0), 0.0), ((), None), ((-1.8, -1.8, 0.0), -math.log(2))]
)
def test_log_loss_leaves_the_end_token_out(logp, value):
    row = Scores(record="r", logp=logp, hit=(True,) * len(logp), z=logp, ends=True, zlib=9)
    found = log_loss(row)
    assert found is None if value is None else found == pytest.approx(value)


@pytest.mark.parametrize(
    ("wanted", "old", "spans"),
    [
        ("Elin lives at 5 Elm Street.", "Elin lives at 9 Oak Lane.", ("5 elm street",)),
        ("Her doctor is Dr Vane.", "I do not know.", ("her doctor is dr vane",)),
        ("Same words.", "Same words.", ("same words",)),
    ],
)
def test_what_is_new_in_a_wanted_answer(wanted, old, spans):
    assert wanted_spans(wanted, old) == spans


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("She moved to 5 Elm Street last year.", 1.0),
        ("Elin lives at 9 Oak Lane.", 0.0),
        ("I do not know.", 0.0),
        ("5 ELM street", 1.0),
    ],
)
def test_a_wanted_answer_may_be_said_in_other_words(said, value):
    item = Item(
        record="r",
        split="forget",
        question="Where does Elin live?",
        answer="Elin lives at 9 Oak Lane.",
        wanted=("Elin lives at 5 Elm Street.",),
    )
    assert says_wanted(Answer(record="r", text=said), item) == value
    bare = Item(record="r", split="forget", question="q", answer="a")
    assert says_wanted(Answer(record="r", text=said), bare) is None
