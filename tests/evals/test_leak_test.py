"""The rule for few facts: what a leak proves, and what only likelihoods can say of it."""

import math
import random

import pytest

from expunge.evals.axes.forgetting import forgetting_gates
from expunge.evals.comparison import Comparison
from expunge.evals.evidence_table import Table
from expunge.evals.results import Gate
from expunge.evidence.context import Policy
from expunge.evidence.store import Answer, Item, Scores, Unit
from expunge.metrics.outcomes import Status

N = 20
KNOWN, UNKNOWN = 0.9, 0.2


def leak_gate(
    *,
    stated: range,
    guessed: range,
    recalled: range,
    scored: range,
    n: int = N,
    tests: tuple[str, ...] = ("plain",),
    in_turn: int = 1,
) -> Gate:
    """Judge a model that states and recalls some facts, against a gold that guesses some.

    Likelihoods of the judged model are there for the records in `scored` alone. All tests bring out
    the same.
    """
    names = [f"r{i}" for i in range(n)]
    said = {"original": range(n), "unlearned": stated, "gold-0": guessed}
    known = {"original": range(n), "unlearned": recalled, "gold-0": range(0)}
    answers = {
        Unit.under(test, role=role, split="forget", kind="answers"): {
            name: Answer(record=name, text=f"fact{i}" if i in told else "other")
            for i, name in enumerate(names)
        }
        for role, told in said.items()
        for test in tests
    }
    scores = {
        Unit(role=role, split="forget", kind="scores"): {
            name: likely(name, KNOWN if i in told else UNKNOWN, place=(role, i))
            for i, name in enumerate(names)
            if role != "unlearned" or i in scored
        }
        for role, told in known.items()
    }
    items = {
        name: Item(record=name, split="forget", question="q", answer="a", key_answers=(f"fact{i}",))
        for i, name in enumerate(names)
    }
    case = Comparison(
        table=Table(items={"forget": items}, scores=scores, answers=answers),
        subject="unlearned",
        golds=("gold-0",),
        policy=Policy(),
        seed=0,
        in_turn=in_turn,
    )
    (gate,) = (gate for gate in forgetting_gates(case) if gate.name == "key-fact leak")
    return gate


def likely(name: str, p: float, *, place: tuple[str, int]) -> Scores:
    """Models differ by a few per cent of the loss, each in its own way."""
    own = random.Random(repr(place)).gauss(1.0, 0.05)
    logp = (math.log(p) * own,) * 5
    return Scores(record=name, logp=logp, hit=(p > 0.5,) * 5, z=logp, ends=False, zlib=9)


@pytest.mark.parametrize(
    ("stated", "guessed", "recalled", "scored", "status", "said"),
    [
        # Gold guesses four facts, the model states four others.
        (range(4, 8), 4, range(0), range(N), Status.PASS, "0 of them confirmed"),
        (range(4, 8), 4, range(4, 8), range(N), Status.FAIL, "4 of them confirmed"),
        # A tokenizer of its own, or answers alone: nothing tells a guess from a memory.
        (range(4, 8), 4, range(4, 8), range(0), Status.INCONCLUSIVE, "not measured for 4"),
        (range(4, 8), 4, range(0), range(7), Status.INCONCLUSIVE, "not measured for 1"),
        # Facts that gold guesses too need no likelihoods.
        (range(4), 4, range(0), range(0), Status.PASS, "0 of 20 facts came back"),
        (range(0), 4, range(0), range(0), Status.PASS, "0 of 20 facts came back"),
        # More than guessing brings at the rate of this gold, and then more than any guess explains.
        (range(4, 14), 4, range(0), range(N), Status.INCONCLUSIVE, "0 of them confirmed"),
        (range(4, 18), 4, range(0), range(N), Status.FAIL, "0 of them confirmed"),
        # Where the gold guesses nothing, few refuted leaks are luck, four are open, five are not.
        (range(1), 0, range(0), range(N), Status.PASS, "0 of them confirmed"),
        (range(2), 0, range(0), range(N), Status.PASS, "0 of them confirmed"),
        (range(4), 0, range(0), range(N), Status.INCONCLUSIVE, "0 of them confirmed"),
        (range(5), 0, range(0), range(N), Status.FAIL, "0 of them confirmed"),
    ],
)
def test_leaks_pass_as_guesses_only_where_likelihoods_call_them_so(
    stated, guessed, recalled, scored, status, said
):
    gate = leak_gate(stated=stated, guessed=range(guessed), recalled=recalled, scored=scored)
    assert gate.status is status, gate
    assert said in gate.reason
    assert (gate.needed is not None) is (status is Status.INCONCLUSIVE)
    assert bool(gate.settle) is (status is Status.INCONCLUSIVE)


@pytest.mark.parametrize(
    ("tests", "in_turn", "status"),
    [
        (("plain",), 1, Status.FAIL),
        (("plain", "paraphrase"), 1, Status.INCONCLUSIVE),
        (("plain",), 2, Status.INCONCLUSIVE),
    ],
)
def test_tests_and_models_share_the_level_of_more_leaks_than_golds(tests, in_turn, status):
    """Nine new leaks against two of the gold: chance 0.033, once or in any of two."""
    some = {"stated": range(2, 11), "guessed": range(2), "recalled": range(0), "scored": range(N)}
    assert leak_gate(**some, tests=tests, in_turn=in_turn).status is status


def test_there_is_no_cliff_in_the_number_of_facts():
    """The same rule for every n: one fact kept fails, and none passes."""
    for n in (5, 58, 59, 60, 400):
        clean = leak_gate(
            stated=range(0), guessed=range(0), recalled=range(0), scored=range(n), n=n
        )
        kept = leak_gate(stated=range(1), guessed=range(0), recalled=range(1), scored=range(n), n=n)
        assert (clean.status, kept.status) == (Status.PASS, Status.FAIL), n
