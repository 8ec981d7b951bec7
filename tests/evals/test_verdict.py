"""The verdict by its policy, from hand-made gates."""

from dataclasses import replace

import numpy as np
import pytest

from expunge.evals.damage import Damage, damage_gate
from expunge.evals.gates import axis_status, interval_gate, missing
from expunge.evals.results import Gate, Ruling, SelfTest
from expunge.evals.verdict import Tally, decide
from expunge.evidence.context import AuditContext, Policy
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import Estimate, Sample

CONTEXT = AuditContext(
    request="r",
    goal="removal",
    tier="G2",
    threat_model="T1",
    level="quick",
    golds=("gold-0",),
    adapter=False,
    seed=0,
    policy=Policy(),
)
FINE = (SelfTest(name="check", passed=True, detail="ok"),)
TALLY = Tally(facts=20, leaked=0, attempts=120, before=19, guessable=0)


def gate(axis: Axis, status: Status = Status.PASS, *, n: int = 20, value: float = 0.0) -> Gate:
    return Gate(
        axis=axis,
        name="key-fact leak" if axis is Axis.FORGETTING else f"test of {axis}",
        value=None if status is Status.NOT_COMPUTABLE else value,
        low=None if status is Status.NOT_COMPUTABLE else 0.0,
        high=None if status is Status.NOT_COMPUTABLE else 0.139,
        margin=0.1,
        n=n,
        status=status,
        reason="no gold" if status is Status.NOT_COMPUTABLE else "",
        needed=39 if status is Status.INCONCLUSIVE else None,
    )


def gates(**changed: Gate) -> list[Gate]:
    behind = replace(gate(Axis.FORGETTING), name="residual memory")
    found = [changed.get(axis.name.lower(), gate(axis)) for axis in Axis]
    # An axis that is not computable has no gate that is.
    whole = found[0].status is not Status.NOT_COMPUTABLE
    return [*found, behind] if whole else found


def ruled(found, context=CONTEXT, tests=FINE, informative=True):
    return decide(context, found, tests, informative, tally=TALLY)


@pytest.mark.parametrize(
    ("axis", "status", "ruling"),
    [
        (Axis.FORGETTING, Status.FAIL, Ruling.FAIL_RESIDUAL),
        (Axis.PRIVACY, Status.FAIL, Ruling.FAIL_RESIDUAL),
        (Axis.ROBUSTNESS, Status.FAIL, Ruling.FAIL_RESIDUAL),
        (Axis.UTILITY, Status.FAIL, Ruling.FAIL_DAMAGE),
        (Axis.LOCALITY, Status.FAIL, Ruling.FAIL_DAMAGE),
        (Axis.PRIVACY, Status.SCAR, Ruling.PASS_WITH_SCAR),
        (Axis.FORGETTING, Status.INCONCLUSIVE, Ruling.INCONCLUSIVE),
        (Axis.ROBUSTNESS, Status.INCONCLUSIVE, Ruling.INCONCLUSIVE),
        (Axis.UTILITY, Status.INCONCLUSIVE, Ruling.INCONCLUSIVE),
        (Axis.LOCALITY, Status.INCONCLUSIVE, Ruling.INCONCLUSIVE),
        (Axis.FORGETTING, Status.NOT_COMPUTABLE, Ruling.INCONCLUSIVE),
        (Axis.ROBUSTNESS, Status.NOT_COMPUTABLE, Ruling.INCONCLUSIVE),
        (Axis.UTILITY, Status.NOT_COMPUTABLE, Ruling.INCONCLUSIVE),
        (Axis.PRIVACY, Status.NOT_COMPUTABLE, Ruling.PASS),
        (Axis.LOCALITY, Status.NOT_COMPUTABLE, Ruling.PASS),
        (Axis.UTILITY, Status.PASS, Ruling.PASS),
    ],
)
def test_one_axis_decides(axis, status, ruling):
    verdict = ruled(gates(**{axis.name.lower(): gate(axis, status)}))
    assert verdict.ruling is ruling
    if status is not Status.PASS:
        assert any(str(axis) in reason for reason in verdict.reasons)
    if status is Status.NOT_COMPUTABLE and ruling is Ruling.PASS:
        assert f"Not tested: {axis}." in verdict.sentence


def test_residual_comes_before_damage():
    both = gates(
        forgetting=gate(Axis.FORGETTING, Status.FAIL), utility=gate(Axis.UTILITY, Status.FAIL)
    )
    assert ruled(both).ruling is Ruling.FAIL_RESIDUAL


def test_a_pass_in_plain_words():
    verdict = ruled(gates())
    assert verdict.sentence == (
        "0 of 20 facts came back in 120 attempts (before: 19 of 20). The model passed: in these "
        "tests it could not be told apart, within the stated margins, from a model whose last "
        "training stage never had the data. With 20 facts, the true rate could be as high as 14%. "
        "Provisional: level quick covers ordinary use only."
    )
    assert (verdict.threat_model, verdict.tier, verdict.provisional) == ("T0", "G2", True)
    assert "a higher promise needs a higher level" in verdict.reasons[-1]


@pytest.mark.parametrize(
    ("tier", "words"),
    [("G1", "never trained on the data"), ("G3", "has never seen"), ("G4", "no longer be repro")],
)
def test_the_tier_caps_the_wording(tier, words):
    assert words in ruled(gates(), replace(CONTEXT, tier=tier)).sentence


@pytest.mark.parametrize("level", ["quick", "standard"])
def test_privacy_that_is_not_settled_blocks_a_removal_of_any_size(level):
    privacy = gate(Axis.PRIVACY, Status.INCONCLUSIVE, n=20, value=0.05)
    assert ruled(gates(privacy=privacy), replace(CONTEXT, level=level)).ruling is (
        Ruling.INCONCLUSIVE
    )


def test_a_failed_self_test_makes_it_invalid():
    broken = (*FINE, SelfTest(name="ladder", passed=False, detail="it rises"))
    verdict = ruled(gates(), tests=broken, informative=False)
    assert verdict.ruling is Ruling.INVALID
    assert "(ladder)" in verdict.sentence
    assert verdict.reasons[0] == "self-test ladder: it rises"


def test_nothing_to_forget():
    verdict = ruled(gates(), informative=False)
    assert verdict.ruling is Ruling.NOTHING_TO_FORGET
    assert "nothing to forget" in verdict.sentence


def test_what_nothing_is_compared_with_is_not_called_nothing():
    verdict = ruled(gates(), informative=None)
    assert verdict.ruling is Ruling.INCONCLUSIVE
    assert "give gold models or control records" in verdict.sentence
    left = gates(forgetting=gate(Axis.FORGETTING, Status.FAIL))
    assert ruled(left, informative=None).ruling is Ruling.FAIL_RESIDUAL


@pytest.mark.parametrize(
    ("asked", "level", "made", "reached"),
    [
        ("T1", "standard", (), "T1"),
        ("T1", "standard", ("T2",), "T2"),
        ("T2", "standard", (), "T1"),
        ("T2", "standard", ("T2",), "T2"),
        ("T3", "paranoid", ("T3",), "T1"),
        ("T3", "paranoid", ("T2",), "T2"),
        ("T3", "paranoid", ("T2", "T3"), "T3"),
        ("T0", "quick", (), "T0"),
    ],
)
def test_a_pass_reaches_no_further_than_the_attacks_that_were_made(asked, level, made, reached):
    context = replace(CONTEXT, threat_model=asked, level=level)
    attacked = [replace(gate(Axis.ROBUSTNESS), name=threat, threat=threat) for threat in made]
    unmade = replace(gate(Axis.ROBUSTNESS, Status.NOT_COMPUTABLE), threat="T2")
    verdict = ruled([*gates(), *attacked, unmade], context)
    assert (verdict.ruling, verdict.threat_model) == (Ruling.PASS, reached)
    unmade = f"{asked} was asked for; no attack of {'T2' if reached < 'T2' else 'T3'} could be made"
    assert (unmade in verdict.reasons) is (reached < asked)


@pytest.mark.parametrize(
    ("goal", "adapter", "ruling", "words"),
    [
        ("removal", True, Ruling.FAIL_RESIDUAL, "weights beneath the adapter are unchanged"),
        ("suppression", True, Ruling.PASS, "This is suppression"),
        ("suppression", False, Ruling.PASS, "This is suppression"),
        ("edit", False, Ruling.INCONCLUSIVE, "This is an edit"),
    ],
)
def test_goal_and_adapter(goal, adapter, ruling, words):
    verdict = ruled(gates(), replace(CONTEXT, goal=goal, adapter=adapter))
    assert verdict.ruling is ruling
    assert words in verdict.sentence
    assert ("weights beneath the adapter" in verdict.sentence) is adapter


def test_privacy_is_not_promised_by_suppression():
    found = gates(privacy=gate(Axis.PRIVACY, Status.FAIL))
    assert ruled(found, replace(CONTEXT, goal="suppression")).ruling is Ruling.PASS


def test_inconclusive_says_how_many_records():
    verdict = ruled(gates(utility=gate(Axis.UTILITY, Status.INCONCLUSIVE)))
    assert "about 39 more records would settle it" in verdict.sentence
    needier = replace(gate(Axis.LOCALITY, Status.INCONCLUSIVE), needed=50)
    both = ruled(gates(utility=gate(Axis.UTILITY, Status.INCONCLUSIVE), locality=needier))
    assert "about 50 more records would settle it" in both.sentence


@pytest.mark.parametrize(
    ("tally", "start"),
    [
        (None, "The model passed"),
        (replace(TALLY, facts=0), "The model passed"),
        (
            replace(TALLY, facts=0, recited=0.034, recited_before=0.81),
            "The model recites 3% of the text by itself (before: 81%).",
        ),
        (
            replace(TALLY, leaked=1, guessable=2),
            "1 of 20 facts came back in 120 attempts (before: 19 of 20, and 2 of 20 from",
        ),
    ],
)
def test_counts_come_first(tally, start):
    assert decide(CONTEXT, gates(), FINE, True, tally=tally).sentence.startswith(start)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((), Status.NOT_COMPUTABLE),
        ((Status.PASS, Status.NOT_COMPUTABLE), Status.PASS),
        ((Status.PASS, Status.INCONCLUSIVE), Status.INCONCLUSIVE),
        ((Status.SCAR, Status.INCONCLUSIVE), Status.SCAR),
        ((Status.SCAR, Status.FAIL), Status.FAIL),
    ],
)
def test_the_weakest_link_decides(statuses, expected):
    assert axis_status(Axis.PRIVACY, [gate(Axis.PRIVACY, s) for s in statuses]) is expected


@pytest.mark.parametrize(
    ("relation", "expected"),
    [(Status.INCONCLUSIVE, Status.PASS), (Status.FAIL, Status.FAIL)],
)
def test_a_small_relation_blocks_only_by_failing(relation, expected):
    found = [gate(Axis.LOCALITY), replace(gate(Axis.LOCALITY, relation), part=True)]
    assert axis_status(Axis.LOCALITY, found) is expected


def test_gates_carry_what_they_decided_by():
    made = interval_gate(Axis.UTILITY, "x", Estimate(0.05, 0.0, 0.15), margin=0.1, n=20)
    assert (made.status, made.needed) == (Status.INCONCLUSIVE, 60)
    absent = missing(Axis.UTILITY, "x", margin=0.1, reason="why")
    assert (absent.status, absent.value, absent.reason) == (Status.NOT_COMPUTABLE, None, "why")


def stress(threat: str, status: Status = Status.PASS) -> Gate:
    return replace(gate(Axis.ROBUSTNESS, status), name=f"relearning at {threat}", threat=threat)


@pytest.mark.parametrize(
    ("level", "asked", "tried", "ruling", "reach"),
    [
        ("quick", "T1", [], Ruling.PASS, "T0"),
        ("quick", "T1", ["T2"], Ruling.PASS, "T0"),
        ("standard", "T1", [], Ruling.PASS, "T1"),
        ("standard", "T0", ["T1", "T2"], Ruling.PASS, "T2"),
        ("standard", "T1", ["T3"], Ruling.PASS, "T1"),
        ("standard", "T1", ["T2", "T3"], Ruling.PASS, "T2"),
        ("paranoid", "T1", ["T2", "T3"], Ruling.PASS, "T3"),
        ("paranoid", "T1", ["T2", "T3!"], Ruling.PASS, "T2"),
        ("paranoid", "T1", ["T2!", "T3"], Ruling.PASS, "T1"),
        ("paranoid", "T1", ["T2?", "T3"], Ruling.PASS, "T1"),
        ("paranoid", "T1", ["T1!"], Ruling.FAIL_RESIDUAL, "T1"),
        ("paranoid", "T0", ["T1!"], Ruling.PASS, "T0"),
        ("paranoid", "T2", ["T2!"], Ruling.FAIL_RESIDUAL, "T2"),
        ("paranoid", "T2", ["T2?"], Ruling.INCONCLUSIVE, "T2"),
    ],
)
def test_a_pass_is_for_the_largest_threat_model_that_holds(level, asked, tried, ruling, reach):
    signs = {"!": Status.FAIL, "?": Status.INCONCLUSIVE}
    attacks = [stress(word[:2], signs.get(word[2:], Status.PASS)) for word in tried]
    context = replace(CONTEXT, level=level, threat_model=asked)
    verdict = ruled([*gates(), *attacks], context)
    assert (verdict.ruling, verdict.threat_model) == (ruling, reach)
    beyond = any(word[2:] == "!" and word[:2] > asked for word in tried)
    assert ("not for weight release" in verdict.sentence) is beyond
    assert any("beyond the promise" in reason for reason in verdict.reasons) is beyond


def test_margins_widen_with_the_access_of_the_adversary():
    found = [Policy().recovery(threat) for threat in ("T0", "T1", "T2", "T3")]
    assert found == [0.10, 0.10, 0.20, 0.25]


@pytest.mark.parametrize("n", [5, 20, 58, 59, 98, 99, 300])
def test_no_more_records_ever_make_a_clean_result_worse(n):
    clean = Sample(np.zeros(n), tuple(f"record:{i}" for i in range(n)))
    found = Damage(subject=clean, reference=clean, reference_role="original")
    for margin in (0.03, 0.05):
        judged = damage_gate(Axis.UTILITY, "gibberish forget", found, policy=margin, seed=0)
        assert judged.status is Status.PASS


@pytest.mark.parametrize(
    ("goal", "ruling"),
    [("removal", Ruling.INCONCLUSIVE), ("suppression", Ruling.PASS), ("edit", Ruling.PASS)],
)
def test_answers_alone_are_never_called_removal(goal, ruling):
    wanted = replace(gate(Axis.FORGETTING), name="wanted answers")
    answers = [*(g for g in gates() if not g.name.startswith("residual")), wanted]
    verdict = ruled(answers, replace(CONTEXT, goal=goal))
    assert verdict.ruling is ruling
    assert ("behind the answers" in verdict.sentence) is (goal == "removal")


def test_what_an_edit_needs():
    """Wanted answers that were not measured are no pass, and those not said are a failure."""
    context = replace(CONTEXT, goal="edit")
    said = replace(gate(Axis.FORGETTING), name="wanted answers")
    assert ruled(gates(), context).ruling is Ruling.INCONCLUSIVE
    assert "wanted answers" in ruled(gates(), context).sentence
    assert ruled([*gates(), said], context).ruling is Ruling.PASS
    unsaid = replace(said, status=Status.FAIL, value=1.0)
    assert ruled([*gates(), unsaid], context).ruling is Ruling.FAIL_RESIDUAL
    near = gate(Axis.LOCALITY, Status.NOT_COMPUTABLE)
    assert ruled([*gates(locality=near), said], context).ruling is Ruling.INCONCLUSIVE


@pytest.mark.parametrize("goal", ["suppression", "edit"])
def test_what_the_weights_hold_is_no_part_of_what_is_said(goal):
    held = replace(gate(Axis.FORGETTING, Status.FAIL), name="residual memory")
    said = replace(gate(Axis.FORGETTING), name="wanted answers")
    found = [*gates(), held, said]
    assert ruled(found, replace(CONTEXT, goal=goal)).ruling is Ruling.PASS
    assert ruled(found).ruling is Ruling.FAIL_RESIDUAL
