"""e-values: means of at most 1 under the null, and a bound that holds whenever one stops."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from expunge.metrics.e_values import LEVEL, Drawn, e_value, e_value_of_facts, is_decided

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
        * Drawn(hits, asked, told, golds * asked).e_value
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


def test_two_facts_that_golds_state_unlike_each_other_are_no_evidence():
    rates, asked = (0.1, 0.7), 4
    counts = range(asked + 1)
    total = 0.0
    for hits in np.ndindex(4 * (len(counts),)):
        odds = [binom.pmf(hit, asked, rates[place // 2]) for place, hit in enumerate(hits)]
        facts = [Drawn(hits[at], asked, hits[at + 1], asked) for at in (0, 2)]
        total += float(np.prod(odds)) * e_value_of_facts(facts)

    assert total <= 1 + 1e-9


@pytest.mark.parametrize(
    "facts",
    [
        [Drawn(8, 8, 0, 8), *(19 * [Drawn(0, 8, 0, 8)])],
        20 * [Drawn(1, 8, 0, 8)],
    ],
)
def test_one_fact_or_a_little_of_all_is_enough(facts: list[Drawn]):
    assert is_decided(e_value_of_facts(facts))


@pytest.mark.parametrize("facts", [20 * [Drawn(8, 8, 8, 8)], 20 * [Drawn(0, 8, 0, 8)], []])
def test_what_golds_state_as_well_is_not_decided(facts: list[Drawn]):
    assert not is_decided(e_value_of_facts(facts))


@pytest.mark.parametrize(
    "call",
    [
        lambda: e_value(3, 2, 0.1),
        lambda: e_value(1, 2, 0.0),
        lambda: Drawn(1, 4, 0, 6).e_value,
        lambda: Drawn(5, 4, 0, 4).e_value,
    ],
)
def test_counts_that_cannot_be_are_refused(call: Callable[[], float]):
    with pytest.raises(ValueError, match="must be"):
        call()
