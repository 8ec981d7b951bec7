"""Key spans against arrays written by hand, and their probabilities against closed forms."""

import math

import pytest

from expunge.metrics.fact_matchers import english
from expunge.metrics.key_spans import (
    LEAST_GAIN,
    key_spans,
    noise_threshold,
    span_probability,
    tells,
    token_gains,
    word_numbers,
)

TOKENS = ("She", " lives", " in", " Hal", "lor", "an", " Bay", " of", " Kot", "or", ".")
ORIGINAL = tuple(map(math.log, (0.9, 0.9, 0.9, 0.8, 0.9, 0.9, 0.9, 0.9, 0.8, 0.9, 0.9)))
GOLD = tuple(map(math.log, (0.9, 0.9, 0.8, 0.01, 0.6, 0.9, 0.01, 0.9, 0.001, 0.8, 0.9)))


def texts(spans):
    return ["".join(TOKENS[span.start : span.stop]) for span in spans]


def test_a_span_is_what_the_original_predicts_and_gold_does_not():
    numbers = word_numbers(TOKENS)
    assert texts(key_spans(ORIGINAL, [GOLD], words=numbers)) == [" Halloran Bay of Kotor"]
    assert texts(key_spans(ORIGINAL, [GOLD])) == [" Hal", " Bay of Kot"]
    assert key_spans(GOLD, [ORIGINAL]) == key_spans(ORIGINAL, [ORIGINAL]) == ()


def test_what_one_gold_predicts_is_no_fact():
    knows = [*GOLD[:6], *ORIGINAL[6:]]
    assert texts(key_spans(ORIGINAL, [GOLD, knows])) == [" Hal"]


def test_a_token_that_the_original_cannot_predict_is_no_fact():
    weak = [*ORIGINAL[:3], math.log(0.1), *ORIGINAL[4:]]
    assert texts(key_spans(weak, [GOLD])) == [" Bay of Kot"]


def test_the_gain_of_a_span_is_the_sum_over_its_tokens():
    (first, second) = key_spans(ORIGINAL, [GOLD])
    assert first.gain == pytest.approx(math.log(80))
    assert second.gain == pytest.approx(math.log(90) + math.log(800))
    assert (first.start, first.stop) == (3, 4)


def test_noise_between_models_that_saw_nothing_raises_the_threshold():
    assert noise_threshold([]) == LEAST_GAIN
    quiet = [([math.log(0.5)] * 100, [[math.log(0.4)] * 100])]
    assert noise_threshold(quiet) == LEAST_GAIN
    loud = [([math.log(0.5)] * 100, [[math.log(0.005)] * 100])]
    assert noise_threshold(loud) == pytest.approx(math.log(100))
    unpredicted = [([math.log(0.1)] * 100, [[math.log(0.001)] * 100])]
    assert noise_threshold(unpredicted) == LEAST_GAIN
    assert texts(key_spans(ORIGINAL, [GOLD], threshold=noise_threshold(loud))) == [" Kot"]


def test_probabilities_at_every_prefix():
    logp = [math.log(p) for p in (0.9, 0.5, 0.001, 0.8, 0.4)]
    found = span_probability(logp, [False, True, True, True, False])
    assert found.first_prob == pytest.approx(0.5)
    assert found.min_prob == pytest.approx(0.001)
    assert found.log_prob == pytest.approx(math.log(0.5 * 0.001 * 0.8))
    assert [math.exp(each) for each in found.onward] == pytest.approx([0.0004, 0.0008, 0.8])
    # One token is a dam: what follows it is still there.
    assert found.after_least_likely == pytest.approx(0.8)
    assert span_probability(logp, [False] * 5) is None
    assert span_probability([math.log(0.25)], [True]).after_least_likely == 1.0


def test_words_of_tokens():
    assert word_numbers(TOKENS) == [0, 1, 2, 3, 3, 3, 4, 5, 6, 6, 7]
    assert word_numbers(()) == []


@pytest.mark.parametrize(
    ("text", "shown", "expected"),
    [
        (" of the", (), False),
        (" Le Petit Sultan", (), True),
        (" Le Petit Sultan", ("Who wrote Le Petit Sultan?",), False),
        (" 4410", (), True),
        (" his writing", ("What is his writing like?",), False),
    ],
)
def test_only_what_cannot_be_guessed_is_a_fact(text, shown, expected):
    assert tells(text, shown, english()) is expected


@pytest.mark.parametrize(
    "call",
    [
        lambda: span_probability([0.0], [True, False]),
        lambda: token_gains([0.0], []),
        lambda: token_gains([0.0], [[0.0, 0.0]]),
        lambda: key_spans([0.0], [[0.0]], words=[0, 1]),
    ],
)
def test_lengths_must_fit(call):
    with pytest.raises(ValueError, match=r"fit|needs"):
        call()
