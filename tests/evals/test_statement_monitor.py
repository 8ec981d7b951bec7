"""The e-process of a monitor: its rate of false alarms over many rounds, and its power."""

import random

import pytest

from expunge.evals.statement_monitor import RoundCounts, e_process
from expunge.metrics.e_values import LEVEL, is_decided


def followed(draw: random.Random, *, rates, facts=20, guess=0.05) -> bool:
    """Whether a monitor alarms: facts are guessed, each round anew, at the rate of the round."""
    said: set[int] = set()
    rounds = []
    for rate in rates:
        now = {fact for fact in range(facts) if draw.random() < rate}
        rounds.append(RoundCounts(at_risk=facts - len(said), fresh=len(now - said)))
        said |= now
    return is_decided(max(e_process(rounds, chance=guess)))


def test_models_that_guess_alarm_at_the_stated_rate_however_often_they_are_asked():
    draw = random.Random(0)
    false = sum(followed(draw, rates=[0.05] * 200) for _ in range(200))
    assert false <= 200 * LEVEL


@pytest.mark.parametrize("quiet", [0, 3, 100])
def test_facts_that_come_back_after_quiet_rounds_alarm_in_the_round_when_they_do(quiet):
    rounds = [RoundCounts(at_risk=20, fresh=0)] * quiet + [RoundCounts(at_risk=20, fresh=12)]
    values = e_process(rounds, chance=0.05)
    assert is_decided(values[-1])
    assert max(values[:-1], default=0) < 1


def test_what_is_said_again_is_no_new_evidence():
    first = RoundCounts(at_risk=20, fresh=2)
    again = [RoundCounts(at_risk=18, fresh=0)] * 200
    assert not is_decided(max(e_process([first, *again], chance=0.05)))
