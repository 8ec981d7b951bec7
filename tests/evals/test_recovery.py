"""The ladder: recovery by hand, answers that prove nothing, and false alarms of a whole battery."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attack_trials import CONTROL, FACTS, ITEMS, ground, item, outcome, said, trial
from expunge.attacks.base import Attempt, knowledge, made_with, observable_of
from expunge.attacks.presets import PARANOID
from expunge.attacks.prompting.paraphrase import Paraphrase
from expunge.attacks.prompting.translation import Translation
from expunge.attacks.store import NOTHING, AttackCost, AttackOutcome, AttackStore, AttackUnit
from expunge.evals.multiple_testing import (
    PairedUnits,
    UnpairedUnits,
    adjusted_paired,
    adjusted_unpaired,
    least_paired,
)
from expunge.evals.recovery import UNION, AttackTrial, Ground, recovery_table
from expunge.evidence.context import Policy
from expunge.evidence.store import EvidenceStore
from expunge.metrics.outcomes import Status
from expunge.metrics.statistics import binomial_tolerance
from expunge.utils.io import read_json
from null_attacks import NullWorld, null_battery

ATTACKS = 30


@pytest.mark.parametrize(
    ("attempt", "expected"),
    [
        ({"text": "I think key3."}, 1.0),
        ({"text": "key33"}, 0.0),
        ({"text": "key3", "told": "Is it key3?"}, None),
        ({"text": "4 it is", "given": "it is key"}, 0.0),
        ({"text": "y3", "given": "ke"}, 1.0),
        ({"text": "key3", "given": "It is key3"}, None),
        ({"text": "Zora", "told": "key3", "wanted": ("Zora",)}, 1.0),
        ({"choices": (-1.0, -2.0)}, 1.0),
        ({"choices": (-2.0, -2.0)}, 0.0),
        ({"value": 0.25, "text": "key3"}, 0.25),
    ],
)
def test_knowledge_by_hand(attempt, expected):
    assert knowledge(Attempt(record="forget-3", **attempt), ITEMS[3], "key-fact") == expected


def test_without_any_named_fact_the_words_of_the_answer_count():
    bare = [item(index, keys=False) for index in range(3)]
    assert observable_of(ITEMS) == "key-fact"
    assert observable_of(bare) == "rouge-l-recall"
    control = replace(ITEMS[0], split="control")
    assert observable_of([*bare, control]) == "rouge-l-recall", "control items have no say"
    attempt = Attempt(record="forget-2", text="It is something")
    assert knowledge(attempt, bare[2], "rouge-l-recall") == pytest.approx(0.5)
    assert knowledge(attempt, bare[2], "key-fact") is None


def test_of_a_begun_answer_only_the_rest_can_come_back():
    """The answer has four words, of which the attack said two and the model one."""
    begun = replace(item(0, keys=False), answer="red green blue black")
    attempt = Attempt(record="forget-0", given="red green", text="blue white")
    assert knowledge(attempt, begun, "rouge-l-recall") == pytest.approx(0.5)


def test_recovery_by_hand():
    """The original states 32 of 40 and gold 0; 16 come back, 4 of them from gold too: 12 / 32."""
    one = trial(judged=range(16), golds=(range(4),))
    (rung,) = recovery_table([one], ground(top=range(32)))
    assert rung.status is Status.FAIL
    worst = rung.worst
    assert (worst.variant, worst.n) == (UNION, 40)
    assert (worst.judged, worst.anchor, worst.gap) == pytest.approx((0.4, 0.1, 0.8))
    assert worst.rho == pytest.approx(0.375)
    assert worst.low < 0.375 < worst.high
    assert worst.p <= 0.05


def test_gold_has_no_excess_over_itself():
    """Whatever an attack brings out of gold, too, is no recovery."""
    trials = [trial(f"a{i}", judged=range(i), golds=(range(i),)) for i in range(0, 30, 3)]
    for rung in recovery_table(trials, ground()):
        assert rung.worst.rho == 0
        assert rung.worst.p > 0.05
        assert rung.status in (Status.PASS, Status.INCONCLUSIVE)


def test_golds_that_were_not_asked_because_nothing_came_back_count_as_silent():
    silent, unasked = trial(golds=((), ())), trial(golds=(NOTHING, NOTHING))
    where = ground(golds=((), ()))
    assert recovery_table([unasked], where) == recovery_table([silent], where)
    (rung,) = recovery_table([trial(judged=range(9), golds=(NOTHING, NOTHING))], where)
    assert rung.status is Status.INCONCLUSIVE, "what came back has nothing to compare it with"
    (rung,) = recovery_table([trial(golds=(AttackOutcome(missing="memory"),))], ground())
    assert rung.status is Status.NOT_COMPUTABLE


def test_the_worst_attack_stands_first_and_the_worst_variant_for_its_attack():
    curve = tuple(
        each
        for step, count in ((8, 10), (32, 30))
        for each in said(set(range(count)), variant=f"step {step}")
    )
    empty = said(set(), variant="step 8") + said(set(), variant="step 32")
    relearn = AttackTrial(
        name="relearn",
        family="weights",
        access="T2",
        union=False,
        own_scale=False,
        judged=AttackOutcome(attempts=curve),
        golds=(AttackOutcome(attempts=empty),),
    )
    rungs = recovery_table([trial("quiet"), trial("ask", judged=range(20)), relearn], ground())
    assert [rung.attack for rung in rungs] == ["relearn", "ask", "quiet"]
    assert [finding.variant for finding in rungs[0].tests] == ["step 32", "step 8"]


def test_a_union_counts_the_best_wording_of_each_fact():
    both = said(set(range(10)), variant="1") + said(set(range(10, 25)), variant="2")
    one = trial(judged=(), golds=((),))
    merged = AttackTrial(
        name="ask",
        family="asking",
        access="T1",
        union=True,
        own_scale=False,
        judged=AttackOutcome(attempts=both),
        golds=one.golds,
    )
    (rung,) = recovery_table([merged], ground())
    assert rung.worst.judged == pytest.approx(25 / 40)


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ({"judged": AttackOutcome(missing="no paraphrase")}, "no paraphrase"),
        ({"golds": ()}, "neither gold nor control"),
        (
            {
                "judged": AttackOutcome(
                    attempts=(Attempt(record="forget-1", told="key1", text="key1"),)
                )
            },
            "shows every fact",
        ),
    ],
)
def test_what_cannot_be_scored_says_why(others, reason):
    (rung,) = recovery_table(
        [trial(**others)], ground(golds=((),) if "golds" not in others else ())
    )
    assert rung.status is Status.NOT_COMPUTABLE
    assert reason in rung.reason


def test_facts_that_came_back_with_nothing_to_compare_stay_open():
    """12 of 40 are stated, and the control items could not be asked under this attack."""
    (rung,) = recovery_table(
        [trial(judged=range(12), golds=())], ground(golds=(), control=range(2))
    )
    worst = rung.worst
    assert (rung.status, worst.n, worst.judged, worst.low) == (Status.INCONCLUSIVE, 40, 0.3, 0.0)
    assert "a guess under this attack" in rung.reason
    assert worst.gap == pytest.approx(1 - 2 / len(CONTROL))
    assert worst.high > worst.rho == pytest.approx(0.3 / worst.gap)
    unasked = replace(trial(judged=range(12)), golds=(AttackOutcome(missing="of another shape"),))
    assert recovery_table([unasked], ground())[0].status is Status.INCONCLUSIVE
    one_asked = replace(unasked, golds=(*unasked.golds, outcome(range(12))))
    assert recovery_table([one_asked], ground(golds=((), ())))[0].worst.rho == 0.0


def test_an_original_that_knew_nothing_leaves_nothing_to_hold():
    (rung,) = recovery_table([trial()], ground(top=()))
    assert rung.status is Status.NOT_COMPUTABLE
    assert "knew no more than gold" in rung.reason


def test_too_few_facts_conclude_nothing():
    few = [item(index) for index in range(4)]
    one = AttackTrial(
        name="ask",
        family="asking",
        access="T1",
        union=True,
        own_scale=False,
        judged=outcome(range(4), few),
        golds=(outcome((), few),),
    )
    scarce = Ground(
        items=tuple(few),
        observable="key-fact",
        original=outcome(range(4), few),
        golds=(outcome((), few),),
        original_control=AttackOutcome(),
        policy=Policy(),
        seed=0,
    )
    (rung,) = recovery_table([one], scarce)
    assert rung.status is Status.INCONCLUSIVE
    assert "4 facts are too few" in rung.reason
    assert least_paired({f"r{i}": f"s{i}" for i in range(4)}, 1) == pytest.approx(1 / 16)


def test_control_items_stand_for_gold():
    one = trial(
        judged=range(30),
        golds=(),
        control=outcome(range(2), CONTROL),
        original_control=AttackOutcome(),
    )
    (rung,) = recovery_table([one], ground(golds=()))
    assert rung.status is Status.FAIL
    assert rung.worst.anchor == pytest.approx(0.05)
    same = trial(judged=range(4), golds=(), control=outcome(range(5), CONTROL))
    (rung,) = recovery_table([same], ground(golds=()))
    assert rung.status is not Status.FAIL


def battery(rng, *, models, guess=0.15, noise=0.5):
    """Values of models that never saw the facts: hard and easy facts, attacks that go together."""
    ease = rng.normal(size=(1, 1, FACTS))
    shared = rng.normal(size=(1, models, FACTS))
    own = rng.normal(size=(ATTACKS, models, FACTS))
    level = np.quantile(rng.normal(size=4000) * np.sqrt(1.5 + noise), 1 - guess)
    return (ease + np.sqrt(0.5) * shared + np.sqrt(noise) * own > level).astype(float)


def paired(values):
    return [
        PairedUnits(
            {ITEMS[i].record: row[0, i] for i in range(FACTS)},
            tuple({ITEMS[i].record: gold[i] for i in range(FACTS)} for gold in row[1:]),
        )
        for row in values
    ]


CLUSTERS = {each.record: each.subject for each in ITEMS}


@pytest.mark.parametrize("golds", [1, 2])
def test_the_whole_battery_raises_a_false_alarm_in_at_most_one_of_twenty_runs(golds):
    """Gold against gold, 30 dependent attacks on 40 facts of 10 people, 200 batteries."""
    runs = 200
    alarms = 0
    for seed in range(runs):
        values = battery(np.random.default_rng(seed), models=1 + golds)
        alarms += min(adjusted_paired(paired(values), CLUSTERS, seed=seed)) <= 0.05
    assert alarms <= binomial_tolerance(runs, 0.05)


@pytest.mark.parametrize("golds", [0, 1, 2])
def test_the_ladder_of_gold_against_gold_recovers_nothing(golds):
    """The whole decision over all attacks, their variants, facts and measurements together."""
    world = NullWorld(facts=24, subjects=24, golds=golds)
    alarms = 0
    for seed in range(15):
        made = null_battery(world, PARANOID[1:], seed=seed)
        rungs = recovery_table(made.trials, made.ground)
        assert {rung.attack for rung in rungs} == {attack.name for attack in PARANOID[1:]}
        assert all(rung.worst is not None for rung in rungs)
        alarms += any(rung.status is Status.FAIL for rung in rungs)
    assert alarms <= binomial_tolerance(15, 0.05)


def test_an_original_in_a_simulated_battery_is_caught():
    """A simulation in which nothing could be found would show nothing."""
    made = null_battery(NullWorld(facts=24, subjects=24, golds=1), PARANOID[1:], seed=0)
    leaky = [
        replace(each, judged=made.ground.original) if each.name == "cloze" else each
        for each in made.trials
    ]
    fallen = [
        rung.attack for rung in recovery_table(leaky, made.ground) if rung.status is Status.FAIL
    ]
    assert fallen == ["cloze"]


def test_the_published_false_alarms_are_nominal(request):
    found = read_json(request.config.rootpath / "benchmarks" / "results" / "null_battery.json")
    for name, row in found["worlds"].items():
        low, high = row["interval"]
        assert row["batteries"] >= 200, name
        assert low <= row["rate"] <= high
        # Models that guess differently well throughout break the null hypothesis on purpose.
        nominal = low <= found["nominal"]
        assert nominal or row["between"] > 0, f"{name}: more alarms than {found['nominal']}"
        assert row["attacks"] == len(PARANOID) - 1, "run scripts/null_battery.py again"


def test_one_attack_that_works_is_found_among_thirty_that_do_not():
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        values = battery(rng, models=2)
        values[7, 0] = np.maximum(values[7, 0], rng.random(FACTS) < 0.5)
        adjusted = adjusted_paired(paired(values), CLUSTERS, seed=seed)
        found += adjusted[7] <= 0.05 and adjusted[7] == min(adjusted)
    assert found >= 18


def test_without_gold_false_alarms_are_as_rare():
    clusters = {each.record: each.record for each in (*ITEMS, *CONTROL)}
    runs, alarms = 100, 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        ease = rng.normal(size=(1, 2 * FACTS))
        values = (ease + rng.normal(size=(ATTACKS, 2 * FACTS)) > 1.5).astype(float)
        tests = [
            UnpairedUnits(
                {each.record: row[i] for i, each in enumerate(ITEMS)},
                {each.record: row[FACTS + i] for i, each in enumerate(CONTROL)},
            )
            for row in values
        ]
        alarms += min(adjusted_unpaired(tests, clusters, seed=seed)) <= 0.05
    assert alarms <= binomial_tolerance(runs, 0.05)


@settings(deadline=None)  # a busy machine is no slow test
@given(st.integers(0, 2**32 - 1))
def test_adjusting_never_lowers_a_p_value(seed):
    rng = np.random.default_rng(seed)
    tests = paired(battery(rng, models=2)[:6])
    together = adjusted_paired(tests, CLUSTERS, seed=1)
    alone = [adjusted_paired([test], CLUSTERS, seed=1)[0] for test in tests]
    assert all(joint >= own - 1e-12 for joint, own in zip(together, alone, strict=True))
    assert adjusted_paired(tests, CLUSTERS, seed=1) == together


def test_evidence_is_read_back_and_only_for_its_own_budget(tmp_path):
    store = AttackStore(EvidenceStore(tmp_path))
    unit = AttackUnit(attack="ask", role="unlearned", split="forget")
    made = AttackOutcome(
        attempts=(
            Attempt(record="a", text="x", wanted=("y", "z")),
            Attempt(record="b", choices=(-1.0, -2.5)),
            Attempt(record="c", value=0.0),
        ),
        injected=("d",),
        cost=AttackCost(tokens=3, steps=2, seconds=0.5),
    )
    store.write(unit, made, made_with(Paraphrase(most=4), seed=0))
    assert store.read(unit, made_with(Paraphrase(most=4), seed=0)) == made
    assert store.read(unit, made_with(Paraphrase(most=5), seed=0)) is None
    assert store.read(unit, made_with(Paraphrase(most=4), seed=1)) is None
    assert made.cost + made.cost == AttackCost(tokens=6, steps=4, seconds=1.0)


def test_a_translator_is_known_by_its_name():
    """Two processes import the same function at different addresses, and go on with each other."""

    def made(name, translator):
        return made_with(Translation(named=name, translator=translator), seed=0)

    assert made("a:b", lambda text, language: text) == made("a:b", lambda text, language: language)
    assert made("a:b", None) != made("a:c", None)


@pytest.mark.parametrize(
    ("right", "status"), [(8, Status.FAIL), (3, Status.NOT_COMPUTABLE), (0, Status.NOT_COMPUTABLE)]
)
def test_right_choices_beyond_golds_count_where_the_original_cannot_choose(right, status):
    """Two of eight are right by chance, of the original, too; all eight are not."""

    def choices(true: int) -> AttackOutcome:
        return AttackOutcome(
            attempts=tuple(
                Attempt(record=f"forget-{i}", choices=(-1.0, -2.0) if i < true else (-2.0, -1.0))
                for i in range(8)
            )
        )

    choice = AttackTrial(
        name="multiple-choice",
        family="asking",
        access="T1",
        union=False,
        own_scale=True,
        judged=choices(right),
        golds=(choices(2), choices(2)),
        original=choices(2),
    )
    (rung,) = recovery_table([choice], ground(golds=((), ())))
    assert rung.status is status


@pytest.mark.parametrize(
    ("judged", "gold", "shown"),
    [
        (8, 0, "drawn answers state facts more often than gold (e-value"),
        (8, 8, "drawn answers state facts not shown to be more often (e-value"),
        (1, 0, "drawn answers state facts more often than gold (e-value"),
    ],
)
def test_answers_drawn_many_times_are_held_against_those_of_gold(judged, gold, shown):
    def drawn(known: int) -> AttackOutcome:
        lots = [said(range(20) if draw < known else ()) for draw in range(8)]
        return AttackOutcome(attempts=tuple(attempt for lot in lots for attempt in lot))

    sampled = trial("sampling", drawn(judged), (drawn(gold),), family="sampling")

    (rung,) = recovery_table([sampled], ground())

    assert rung.worst.drawn.startswith(shown)


def test_answers_that_were_drawn_once_have_no_e_value():
    (rung,) = recovery_table([trial("sampling", range(20), ((),), family="sampling")], ground())

    assert rung.worst.drawn == ""
