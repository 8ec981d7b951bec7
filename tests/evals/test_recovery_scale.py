"""The scale of a test: what the original must have known before a share of it can come back."""

import numpy as np
import pytest

from attack_trials import CONTROL, FACTS, ITEMS, ground, outcome, said, trial
from expunge.attacks.base import Attempt
from expunge.attacks.store import AttackOutcome
from expunge.evals.multiple_testing import PairedUnits, adjusted_paired
from expunge.evals.recovery import recovery_table
from expunge.metrics.outcomes import Status

NEVER = AttackOutcome(missing="the facts are passages without a question")


def depths(*levels, seed=0):
    """A measurement of every fact at some depths; of each depth the mean is given."""
    noise = np.random.default_rng(seed).uniform(-0.15, 0.15, FACTS)
    return AttackOutcome(
        attempts=tuple(
            Attempt(record=each.record, variant=f"block {depth}", value=level + float(beside))
            for depth, level in enumerate(levels)
            for each, beside in zip(ITEMS, noise - noise.mean(), strict=True)
        )
    )


@pytest.mark.parametrize(
    ("original", "golds", "computed"),
    [
        (depths(0.6, seed=1), [depths(0.3, seed=2)], True),
        (depths(0.31, seed=1), [depths(0.3, seed=2)], False),
        (depths(0.3, seed=1), [depths(0.4, seed=2)], False),
        (depths(0.6, seed=1), [depths(0.2, seed=2), depths(0.4, seed=3)], False),
        (depths(0.6, seed=1), [depths(0.29, seed=2), depths(0.31, seed=3)], True),
    ],
)
def test_on_a_scale_of_its_own_the_original_must_measurably_know_more(original, golds, computed):
    """Above gold with its 95 % interval, and by more than three deviations between golds."""
    one = trial("lens", depths(0.35, seed=4), golds, own_scale=True, original=original)
    (rung,) = recovery_table([one], ground(golds=golds))
    assert (rung.worst is not None) is computed
    if not computed:
        assert rung.status is Status.NOT_COMPUTABLE
        assert "did not measurably know more than gold" in rung.reason


def test_a_depth_at_which_the_original_knows_nothing_is_left_out():
    """There gold lies below it by luck, as below any model: a share of luck is no recovery.

    Chance had its say there as well, and p-values stay adjusted for it.
    """
    judged, gold = depths(0.32, 0.33, seed=1), depths(0.3, 0.3, seed=2)
    original = depths(0.31, 0.8, seed=3)
    one = trial("lens", judged, [gold], own_scale=True, union=False, original=original)
    (rung,) = recovery_table([one], ground())
    assert [test.variant for test in rung.tests] == ["block 1"]
    assert rung.worst.gap == pytest.approx(0.5)
    columns = [
        [ground().column(each.attempts, f"block {depth}") for each in (judged, gold)]
        for depth in (0, 1)
    ]
    tests = [PairedUnits(own, (other,)) for own, other in columns]
    alone, both = (
        adjusted_paired(some, ground().clusters(), seed=0) for some in (tests[1:], tests)
    )
    assert rung.worst.p == both[1] > alone[0]


ALL, NONE = range(FACTS), ()


@pytest.mark.parametrize("gold", [True, False])
@pytest.mark.parametrize(
    ("judged", "original", "status", "gap"),
    [
        (range(20), ALL, Status.FAIL, 1.0),
        (range(10), range(20), Status.FAIL, 0.5),
        (NONE, ALL, Status.PASS, 1.0),
        # Nobody asked the original under the attack: what came back is a share of all.
        (range(20), None, Status.FAIL, 1.0),
        (range(2), None, Status.INCONCLUSIVE, 1.0),
        (NONE, None, Status.NOT_COMPUTABLE, None),
        # It was asked, and hardly knew a thing: a fact or two are guesses, many are not.
        (range(20), NONE, Status.FAIL, 1.0),
        (range(2), range(2), Status.NOT_COMPUTABLE, None),
        (NONE, NONE, Status.NOT_COMPUTABLE, None),
    ],
)
def test_facts_of_passages_are_held_against_the_same_attack(judged, original, status, gap, gold):
    asked = AttackOutcome() if original is None else outcome(original)
    others = {"original": asked}
    if not gold:
        others |= {"control": outcome((), CONTROL)}
        others |= {
            "original_control": AttackOutcome() if original is None else outcome((), CONTROL)
        }
    one = trial("prefill-50", judged, [NONE] if gold else [], **others)
    (rung,) = recovery_table([one], ground(top=NEVER, golds=[NEVER] if gold else []))
    assert rung.status is status
    assert gap is None or rung.worst.gap == gap
    alone = rung.worst is not None and original in (None, NONE)
    assert ("a share of all facts" in rung.reason) is alone
    assert gap is not None or "the original knew no more than gold" in rung.reason


@pytest.mark.parametrize(
    ("judged", "status"),
    [
        ((), Status.PASS),
        ((7,), Status.PASS),
        ((0,), Status.PASS),
        ((7, 8), Status.INCONCLUSIVE),
        (range(20), Status.FAIL),
    ],
)
def test_one_fact_that_no_gold_states_is_a_guess_and_two_are_open(judged, status):
    """The gold states fact 0 under the attack."""
    one = trial("sampling", judged, [(0,)], original=outcome(ALL))
    (rung,) = recovery_table([one], ground(top=ALL))
    assert rung.status is status


def test_facts_beyond_plain_answers_are_held_against_the_same_attack():
    """Asked plainly, neither original nor gold comes to the point."""
    one = trial("prefill-50", range(10), original=outcome(range(20)))
    (rung,) = recovery_table([one], ground(top=()))
    assert (rung.status, rung.worst.gap, rung.worst.rho) == (Status.FAIL, 0.5, 0.5)


@pytest.mark.parametrize(("leaks", "status"), [(range(20, 40), Status.FAIL), ((), Status.PASS)])
def test_passages_among_questions_are_counted(leaks, status):
    """Half of the facts are in passages, and these are what comes back."""
    plainly = [AttackOutcome(attempts=said(known)[:20]) for known in (ALL, NONE)]
    one = trial("prefill-50", leaks, original=outcome(ALL))
    (rung,) = recovery_table([one], ground(top=plainly[0], golds=plainly[1:]))
    assert (rung.status, rung.worst.n, rung.worst.gap) == (status, FACTS, 1.0)


def test_passages_that_came_back_with_nothing_to_compare_stay_open():
    one = trial("prefill-50", range(12), golds=[], original=outcome(ALL))
    (rung,) = recovery_table([one], ground(top=NEVER, golds=[]))
    assert rung.status is Status.INCONCLUSIVE
    assert (rung.worst.judged, rung.worst.gap) == (0.3, 1.0)
