"""The headline from hand-made gates: five answers, both bounds, and what would settle the rest."""

from dataclasses import replace

import pytest

from expunge.evals.plain_words import ANSWERS, QUESTIONS, Conclusion, Tally, findings, measured
from expunge.evals.results import Gate, Ruling
from expunge.metrics.outcomes import Axis, Status

TALLY = Tally(facts=20, leaked=0, attempts=140, before=20, guessable=0)
PASSED = Conclusion(ruling=Ruling.PASS, goal="removal", cover="", lacking="", tally=TALLY)


def gate(axis: Axis, name: str, status: Status = Status.PASS) -> Gate:
    known = status is not Status.NOT_COMPUTABLE
    return Gate(
        axis=axis,
        name=name,
        value=0.02 if known else None,
        low=-0.01 if known else None,
        high=0.04 if known else None,
        margin=0.1,
        n=20,
        status=status,
        reason="" if known else "no gold was given",
    )


GATES = {
    Axis.FORGETTING: gate(Axis.FORGETTING, "residual memory"),
    Axis.PRIVACY: replace(gate(Axis.PRIVACY, "membership residual"), two_sided=True),
    Axis.ROBUSTNESS: gate(Axis.ROBUSTNESS, "leak under int4"),
    Axis.UTILITY: gate(Axis.UTILITY, "probability retain"),
    Axis.LOCALITY: gate(Axis.LOCALITY, "probability neighbours"),
}


def answered(axis: Axis, case: Conclusion = PASSED, **changed):
    gates = [replace(g, **changed) if g.axis is axis else g for g in GATES.values()]
    return {one.axis: one for one in findings(gates, case)}[axis]


def test_all_is_well():
    found = findings([*GATES.values()], PASSED)
    assert [one.axis for one in found] == [*QUESTIONS]
    assert {one.answer for one in found} == {"yes"}
    assert {one.settle for one in found} == {""}
    # Clopper-Pearson for 0 of 20, one-sided 95 %: 1 - 0.05 ** (1 / 20) = 0.1391.
    assert found[0].detail.startswith(
        "0 of 20 facts came back in 140 attempts (before: 20). The true share is below 14 %"
    )
    assert found[-1].detail == "Nothing came back under weights rounded to 4 bits."


@pytest.mark.parametrize(
    ("unrehearsed", "said"),
    [(frozenset(), "may have rehearsed some"), (frozenset({Axis.LOCALITY}), "never rehearsed")],
)
def test_the_page_says_whether_training_rehearsed_what_is_asked(unrehearsed, said):
    case = replace(PASSED, unrehearsed=unrehearsed)
    assert said in answered(Axis.LOCALITY, case, name="probability neighbours").detail


@pytest.mark.parametrize("axis", list(Axis))
@pytest.mark.parametrize("status", list(Status))
def test_each_axis_answers_for_itself(axis, status):
    missing = {"value": None, "low": None, "high": None, "reason": "no gold was given"}
    one = answered(axis, status=status, **(missing if status is Status.NOT_COMPUTABLE else {}))
    assert one.answer == ANSWERS[status]
    assert bool(one.settle) == (status in (Status.INCONCLUSIVE, Status.NOT_COMPUTABLE))
    assert "Possible" in one.settle or not one.settle
    if status is Status.NOT_COMPUTABLE:
        assert "no retrained reference model was given" in one.detail.lower()
        assert " 0 %" not in one.detail


def test_both_bounds_and_both_limits_are_printed():
    shunned = answered(Axis.PRIVACY, status=Status.SCAR, value=-0.16, low=-0.2, high=-0.02)
    assert "\N{MINUS SIGN}16 % (\N{MINUS SIGN}20 % to \N{MINUS SIGN}2 %)" in shunned.detail
    assert "allowed \N{MINUS SIGN}10 % to 10 %" in shunned.detail
    assert shunned.answer == "yes, with a trace"
    assert measured(GATES[Axis.UTILITY]) == (
        "2 % (\N{MINUS SIGN}1 % to 4 %), allowed at most 10 %, 20 records"
    )


def test_what_was_rehearsed_stands_beside_what_was_not():
    beside = replace(
        GATES[Axis.UTILITY], name="probability retain: rehearsed", value=0.0, n=54, part=True
    )
    refused = gate(Axis.UTILITY, "refusal retain", Status.INCONCLUSIVE)
    for found in ([GATES[Axis.UTILITY], beside], [refused, GATES[Axis.UTILITY], beside]):
        (kept,) = (f for f in findings(found, PASSED) if f.axis is Axis.UTILITY)
        unrehearsed = kept.detail.index("Training never rehearsed these records")
        assert kept.detail.index("Knowledge to keep, lost: 2 %") < unrehearsed
        assert kept.detail.index("records that it rehearsed: 0 %") > unrehearsed
        assert "54 records" in kept.detail
    (kept,) = (f for f in findings([GATES[Axis.UTILITY]], PASSED) if f.axis is Axis.UTILITY)
    assert "Training may have rehearsed some" in kept.detail


@pytest.mark.parametrize(
    ("axis", "changed", "words"),
    [
        (Axis.FORGETTING, {"needed": 39}, ("39 more records to forget", "only if the request has")),
        (Axis.UTILITY, {"needed": 39}, ("39 more records to keep", "Possible: yes")),
        (
            Axis.UTILITY,
            {"needed": 39, "name": "malformed forget", "settle": "more records of this set"},
            ("39 more records to forget", "only if the request has"),
        ),
        (
            Axis.PRIVACY,
            {"settle": "more gold models (now 2)"},
            ("retrained reference models (gold)", "where the training can be repeated"),
        ),
        (
            Axis.FORGETTING,
            {"settle": "more records of the forget set"},
            ("More records of the forget set", "only if there are more such records"),
        ),
        (Axis.LOCALITY, {}, ("Nothing that this request can give", "Possible: no")),
    ],
)
def test_what_is_open_says_what_would_settle_it_and_whether_that_can_be(axis, changed, words):
    one = answered(axis, status=Status.INCONCLUSIVE, **changed)
    assert one.answer == "not settled"
    assert all(word in one.settle for word in words)


@pytest.mark.parametrize(
    ("changed", "axis", "answer", "words"),
    [
        ({"ruling": Ruling.INVALID}, Axis.UTILITY, "not settled", "decide nothing"),
        ({"ruling": Ruling.NOTHING_TO_FORGET}, Axis.FORGETTING, "not applicable", "did not"),
        ({"goal": "suppression"}, Axis.PRIVACY, "not applicable", "not judged"),
        ({"cover": "adapter"}, Axis.FORGETTING, "no", "beneath the adapter are unchanged"),
        ({"lacking": "every gold was refused"}, Axis.FORGETTING, "not settled", "was refused"),
    ],
)
def test_what_no_gate_can_say(changed, axis, answer, words):
    one = answered(axis, replace(PASSED, **changed))
    assert one.answer == answer
    assert words in one.detail


def test_what_a_stronger_adversary_brings_back_is_said():
    relearnt = replace(gate(Axis.ROBUSTNESS, "recovery by relearn", Status.FAIL), threat="T2")
    one = answered(Axis.ROBUSTNESS, replace(PASSED, beyond=(relearnt,)))
    assert one.answer == "yes"
    assert "under training on other facts of the set" in one.detail
    assert "not for release" in one.detail


def test_facts_that_anyone_guesses_are_no_secret_returned():
    guessed = replace(PASSED, tally=replace(TALLY, leaked=1, guessable=2))
    assert "retrained reference models guess 2" in answered(Axis.FORGETTING, guessed).detail
    assert answered(Axis.ROBUSTNESS, guessed).detail.startswith("No more came back than guessing")
