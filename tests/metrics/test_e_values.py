"""e-values: means of at most 1 under the null, and a bound that holds whenever one stops."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from expunge.metrics.e_values import (
    LEVEL,
    e_value,
    e_value_of_facts,
    e_value_of_golds,
    is_decided,
)

NULLS = (0.0, 0.01, 0.05, 0.3)


@pytest.mark.parametrize("rate", NULLS)
def test_the_mean_is_at_most_one_where_draws_state_no_more_than_the_chance(rate: float):
    asked, chance = 12, 0.3

    values = np.array([e_value(hits, asked, chance) for hits in range(asked + 1)])

    mean = values @ binom.pmf(np.arange(asked + 1), asked, rate)
    assert mean == pytest.approx(1) if rate == chance else mean < 1


@pytest.mark.parametrize("golds", [1, 2])
@pytest.mark.parametrize(("own", "theirs"), [(0.1, 0.1), (0.6, 0.6), (0.1, 0.4), (0.0, 0.0)])
def test_the_mean_is_at_most_one_where_golds_state_as_much(golds: int, own: float, theirs: float):
    asked = 8
    both = [
        binom.pmf(hits, asked, own)
        * binom.pmf(told, golds * asked, theirs)
        * e_value_of_golds(hits, asked, gold_hits=told, gold_asked=golds * asked)
        for hits in range(asked + 1)
        for told in range(golds * asked + 1)
    ]

    assert sum(both) <= 1 + 1e-9


@pytest.mark.parametrize("chance", [0.01, 0.05, 0.3])
def test_a_true_null_is_rejected_at_most_at_the_level_whenever_one_stops(chance: float):
    still, rejected = {0: 1.0}, 0.0  # hits so far: probability, of those not yet rejected
    for asked in range(1, 101):
        after: dict[int, float] = {}
        for hits, weight in still.items():
            after[hits] = after.get(hits, 0.0) + weight * (1 - chance)
            after[hits + 1] = after.get(hits + 1, 0.0) + weight * chance
        decided = {hits for hits in after if is_decided(e_value(hits, asked, chance))}
        rejected += sum(after[hits] for hits in decided)
        still = {hits: weight for hits, weight in after.items() if hits not in decided}

    assert 0 < rejected <= LEVEL


def test_a_fact_that_every_draw_states_is_decided_within_eight_draws():
    assert is_decided(e_value_of_golds(8, 8, gold_hits=0, gold_asked=8))
    assert not is_decided(e_value_of_golds(8, 8, gold_hits=8, gold_asked=8))


@pytest.mark.parametrize("values", [[500.0] + 19 * [0.5], 20 * [1.5]])
def test_one_fact_or_a_little_of_all_is_enough(values: list[float]):
    assert is_decided(e_value_of_facts(values), level=0.1)
    assert e_value_of_facts([]) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: e_value(3, 2, 0.1),
        lambda: e_value(1, 2, 0.0),
        lambda: e_value_of_golds(1, 4, gold_hits=0, gold_asked=6),
        lambda: e_value_of_golds(5, 4, gold_hits=0, gold_asked=4),
    ],
)
def test_counts_that_cannot_be_are_refused(call: Callable[[], float]):
    with pytest.raises(ValueError, match="must be"):
        call()
