"""Rebound and drift: exact numbers, chains without rebound, and planted ones that are named."""

import math
from dataclasses import replace

import numpy as np
import pytest

from expunge.evals.rebound import Controls, FactReading, drift, rebounds
from expunge.metrics.statistics import cusum, holm, permutation_test

CHAINS, STEPS = 50, 12


def test_the_permutation_test_counts_every_choice():
    assert permutation_test([3.0], [1.0, 2.0, 3.0]) == pytest.approx(2 / 4)
    assert permutation_test([9.0, 8.0], [1.0] * 60) == pytest.approx(1 / math.comb(62, 2))
    assert permutation_test([0.0] * 5, [1.0] * 100) == 1.0  # drawn, not counted
    with pytest.raises(ValueError, match="both sides"):
        permutation_test([], [1.0])


def test_holm_keeps_the_order_and_never_exceeds_one():
    assert holm([0.04, 0.01, 0.9]) == pytest.approx([0.08, 0.03, 0.9])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_cumulative_sum_forgets_gains_and_adds_up_a_steady_loss():
    assert cusum([0.0, -5.0, 2.0, 2.0], slack=0.5) == [0.0, 0.0, 1.5, 3.0]
    slow = drift([[step * 0.009] for step in range(40)], per_request=0.01, whole=0.9)
    assert (slow.alarms, slow.loss < 0.9) == (True, True)
    fast = drift([[0.0], [0.2]], per_request=0.9, whole=0.1)
    assert (fast.alarms, fast.cusum) == (True, 0.0)
    with pytest.raises(ValueError, match="probes"):
        drift([[1.0]], per_request=0.01, whole=0.1)


def readings(rng, request, *, mean=-4.0, states=False):
    return [
        FactReading(request=request, record=f"r{request}-{i}", logp=value, states=states)
        for i, value in enumerate(rng.normal(mean, 1.0, size=2))
    ]


def test_fifty_chains_without_rebound_raise_no_alarm():
    rng = np.random.default_rng(5)
    adjusted = []
    for _ in range(CHAINS):
        erased, first, then, kept = {}, {}, {}, [list(rng.normal(2.0, 0.5, size=50))]
        for step in range(1, STEPS + 1):
            asked = [replace(old, logp=old.logp + rng.normal(0.0, 0.6)) for old in erased.values()]
            now = tuple(rng.normal(-4.0, 1.0, size=60))
            found = rebounds(
                asked, erased=erased, first=first, controls=Controls(now=now, then=then)
            )
            assert not any(each.alarms for each in found)
            adjusted += [each.adjusted for each in found]
            kept.append([nll + rng.normal(0.0005, 0.01) for nll in kept[-1]])
            assert not drift(kept, per_request=0.01, whole=0.1).alarms
            for each in readings(rng, step):
                erased[each.key] = each
                first[each.key] = replace(each, logp=-0.1, states=True)
            then[step] = now
    assert np.mean(np.array(adjusted) <= 0.01) < 0.005


@pytest.mark.parametrize(
    ("back", "states", "alarms", "stated"),
    [
        (-0.2, True, True, 2),
        (-0.2, False, True, 0),  # likely again, though the greedy answer is another one
        (-3.9, True, False, 0),  # a lucky guess: the likelihood says that nothing came back
        (-3.9, False, False, 0),
    ],
)
def test_a_request_that_is_back_is_found_by_name_among_others(back, states, alarms, stated):
    rng = np.random.default_rng(1)
    erased = {each.key: each for number in range(1, 11) for each in readings(rng, number)}
    first = {key: replace(each, logp=-0.1, states=True) for key, each in erased.items()}
    asked = [
        replace(each, logp=back, states=states) if each.request == 7 else each
        for each in erased.values()
    ]
    controls = tuple(rng.normal(-4.0, 1.0, size=80))
    found = rebounds(
        asked,
        erased=erased,
        first=first,
        controls=Controls(now=controls, then=dict.fromkeys(range(1, 11), controls)),
    )
    assert [each.request for each in found if each.alarms] == ([7] if alarms else [])
    assert [each.stated for each in found if each.request == 7] == [stated]
    assert set(found[6].back) <= {"r7-0", "r7-1"}


def test_facts_that_only_return_to_the_level_of_unseen_text_alarm_nobody():
    rng = np.random.default_rng(2)
    controls = tuple(rng.normal(-4.0, 1.0, size=80))
    erased = {each.key: each for each in readings(rng, 1, mean=-12.0)}
    asked = [replace(each, logp=-4.0) for each in erased.values()]
    first = {key: replace(each, logp=-0.1, states=True) for key, each in erased.items()}
    found = rebounds(
        asked, erased=erased, first=first, controls=Controls(now=controls, then={1: controls})
    )
    assert found[0].p > 0.1
    assert not found[0].alarms
