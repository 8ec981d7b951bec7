"""The order of a fine-tuning: what one record does to the others' steps, which is nothing."""

from itertools import chain

import pytest

from expunge.training.sampler import ContentSampler

TEXTS = [f"record {i}" for i in range(50)]


def order(texts, **given):
    return ContentSampler.of(texts, **{"batch": 8, "epochs": 3, "seed": 0, **given})


def used(order, texts):
    return [[texts[i] for i in draw.forget] for draw in order.draws]


def test_every_epoch_uses_every_record_once_and_in_an_order_of_its_own():
    steps = used(order(TEXTS), TEXTS)
    assert len(steps) == 3 * 7 == 3 * order(TEXTS).steps_per_epoch
    epochs = [list(chain.from_iterable(steps[7 * e : 7 * e + 7])) for e in range(3)]
    assert all(sorted(epoch) == sorted(TEXTS) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


@pytest.mark.parametrize("gone", [{0}, {7, 8}, set(range(10)), {49}])
def test_steps_before_the_first_use_do_not_know_what_was_removed(gone):
    left = [text for i, text in enumerate(TEXTS) if i not in gone]
    whole, without = order(TEXTS), order(left)
    first = whole.first_use(gone)
    assert used(whole, TEXTS)[:first] == used(without, left)[:first]
    assert whole.rates(1e-3, 0.1)[:first] == without.rates(1e-3, 0.1)[:first]
    assert not any(gone & set(draw.forget) for draw in whole.draws[:first])
    assert gone & set(whole.draws[first].forget)


def test_the_order_follows_the_content_not_the_place():
    again = TEXTS[::-1]
    assert used(order(TEXTS), TEXTS) == used(order(again), again)
    assert used(order(TEXTS, seed=1), TEXTS) != used(order(TEXTS), TEXTS)


def test_rates_rise_then_fall_and_tell_256_places_of_an_epoch_apart():
    ordered = order([f"r{i}" for i in range(4000)], batch=1, epochs=2)
    rates = ordered.rates(1.0, 0.25)
    top = max(range(len(rates)), key=rates.__getitem__)
    assert list(rates[:top]) == sorted(rates[:top])
    assert list(rates[top:]) == sorted(rates[top:], reverse=True)
    assert 0 < min(rates) < 0.01
    assert 0.99 < max(rates) <= 1
    assert len(set(ordered.progress)) <= 2 * 256
