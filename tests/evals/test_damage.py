"""Preservation against golds that differ: tables computed by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

import expunge
from expunge.evals.axes.locality import locality_gates
from expunge.evals.axes.utility import general_gate, general_gates, retain_gates
from expunge.evals.comparison import Comparison
from expunge.evals.damage import (
    COLLAPSE,
    Damage,
    Measure,
    damage,
    damage_gate,
    margin_of,
    middle,
    model_spread,
    reference_role,
)
from expunge.evals.evidence_table import Table
from expunge.evals.plain_words import measured
from expunge.evidence.context import Policy
from expunge.evidence.store import Answer, EvidenceStore, Item, Scores, Unit
from expunge.metrics.base import KEY_FACT
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import Sample

N = 400


def case(table: Table, golds: int) -> Comparison:
    roles = tuple(f"gold-{index}" for index in range(golds))
    return Comparison(table=table, subject="unlearned", golds=roles, policy=Policy(), seed=0)


def answered(split: str, *, n: int = N, **wrong: int) -> Table:
    """Each model gets the first `wrong` of `n` records wrong; `gold_0` is the role `gold-0`."""
    items = {
        f"r{i}": Item(record=f"r{i}", split=split, question="q", answer="a", key_answers=(f"f{i}",))
        for i in range(n)
    }
    answers = {
        Unit(role=role.replace("_", "-"), split=split, kind="answers"): {
            f"r{i}": Answer(record=f"r{i}", text="other" if i < count else f"f{i}")
            for i in range(n)
        }
        for role, count in wrong.items()
    }
    return Table(items={split: items}, scores={}, answers=answers)


def texts(**ratio: float) -> Table:
    """Thirty texts of ten tokens, each model `ratio` times as perplexed as the original."""
    names = [f"g{i}" for i in range(30)]
    items = {n: Item(record=n, split="generic", question="", answer="a") for n in names}

    def row(name: str, times: float) -> Scores:
        logp = (-2.0 - math.log(times),) * 10
        return Scores(record=name, logp=logp, hit=(True,) * 10, z=logp, ends=False, zlib=9)

    scores = {
        Unit(role=role.replace("_", "-"), split="generic", kind="scores"): {
            name: row(name, times) for name in names
        }
        for role, times in ratio.items()
    }
    return Table(items={"generic": items}, scores=scores, answers={})


@pytest.mark.parametrize(
    ("levels", "place"),
    [([0.3], 0), ([0.1, 0.5], 0), ([0.5, 0.1], 1), ([0.2, 0.9, 0.3], 2), ([1, 2, 3, 9], 1)],
)
def test_the_middle_gold_is_never_the_one_that_went_wrong(levels, place):
    assert middle(levels) == place


def test_there_is_no_middle_of_nothing():
    with pytest.raises(ValueError, match="no middle"):
        middle([])


@pytest.mark.parametrize(
    ("policy", "noise", "passes", "fails"),
    [
        (0.05, 0.0, 0.05, 0.05),
        (0.05, 0.02, 0.05, 0.05),
        (0.05, 0.04, 0.08, 0.08),
        # References that contradict each other widen nothing: what lies between is unsettled.
        (0.05, 0.08, 0.05, 0.15),
        (0.05, 9.0, 0.05, 0.15),
        (0.2, 9.0, 0.2, 0.2),
    ],
)
def test_margins_follow_noise_up_to_a_cap_and_no_further(policy, noise, passes, fails):
    assert margin_of(policy, noise, cap=COLLAPSE) == pytest.approx((passes, fails))


def test_the_spread_of_models_is_their_shift_or_the_scatter_of_their_records():
    assert model_spread([np.zeros(4)]) == 0.0
    assert model_spread([np.zeros(4), np.full(4, 0.2)]) == pytest.approx(0.2 / math.sqrt(2))
    # Means that agree by luck: two of four records differ, one each way.
    change = np.array([1.0, -1.0, 0.0, 0.0])
    assert model_spread([np.zeros(4), change]) == pytest.approx(math.sqrt(0.5 / 4 / 2))


@pytest.mark.parametrize(
    ("golds", "wrong", "status", "margin"),
    [
        # 32 of 384 right answers of gold-0 are lost: 8.3 %. Original and gold differ by 4 points:
        # SD 2.83 of 96 % right, twice that is 5.9 %.
        ((16,), 48, Status.FAIL, 0.0589),
        # Levels 0, 4 and 12 %: SD of a model 6.1 points, 12.8 % of 96 %.
        ((16, 48), 48, Status.PASS, 0.1273),
        # A real loss is beyond what golds differ: 64 of 384, 16.7 %, at least 13.8 %.
        ((16, 48), 80, Status.FAIL, 0.1273),
        # A gold that lost everything contradicts the others: nothing is widened.
        ((16, 400), 48, Status.INCONCLUSIVE, 0.05),
        ((16, 400), 120, Status.FAIL, 0.05),
        ((16, 400), 16, Status.PASS, 0.05),
    ],
)
def test_retained_answers_against_golds(golds, wrong, status, margin):
    roles = {f"gold_{index}": count for index, count in enumerate(golds)}
    (gate,) = retain_gates(
        case(answered("retain", original=0, unlearned=wrong, **roles), len(golds))
    )
    assert (gate.status, gate.margin) == (status, pytest.approx(margin, abs=1e-3)), gate
    assert ("trained alike differ" in gate.reason) is (gate.margin > 0.05)
    assert (gate.policy is not None) is (gate.margin > 0.05)


@pytest.mark.parametrize(
    ("golds", "times", "status", "margin"),
    [
        ((1.0,), 1.12, Status.FAIL, 0.03),
        ((1.0,), 1.02, Status.PASS, 0.03),
        ((1.0, 1.04), 1.05, Status.FAIL, 0.0453),  # log ratios 0, 0, 0.039: SD of a model 2.3 %
        ((1.0, 1.04), 1.04, Status.PASS, 0.0453),  # as any gold
        ((1.0, 1.3), 1.12, Status.INCONCLUSIVE, 0.03),  # contradict each other by more than 15 %
        ((1.0, 1.3), 1.2, Status.FAIL, 0.03),
        ((0.99, 0.99), 1.02, Status.PASS, 0.03),  # no worse than the original is enough
    ],
)
def test_general_text_against_golds(golds, times, status, margin):
    roles = {f"gold_{index}": ratio for index, ratio in enumerate(golds)}
    gate = general_gate(case(texts(original=1.0, unlearned=times, **roles), len(golds)))
    assert (gate.status, gate.margin) == (status, pytest.approx(margin, abs=1e-3)), gate


def test_the_tail_of_the_loss_is_no_damage_and_the_body_is():
    """Tokens of which nobody knows anything may become less likely still; known ones may not."""
    table = texts(original=1.0, unlearned=1.0)
    unit = Unit(role="unlearned", split="generic", kind="scores")

    def moved(place: int, by: float) -> Table:
        rows = {}
        for name, row in table.scores[unit].items():
            logp = [-9.0 if token == 0 else value for token, value in enumerate(row.logp)]
            logp[place] -= by
            rows[name] = replace(row, logp=tuple(logp))
        return replace(table, scores={**table.scores, unit: rows}, known={})

    assert general_gate(case(moved(0, 5.0), 0)).value == general_gate(case(moved(0, 0.0), 0)).value
    assert general_gate(case(moved(1, 0.9), 0)).value > general_gate(case(moved(1, 0.0), 0)).value


def test_a_kind_of_text_that_is_destroyed_fails_and_a_small_one_never_blocks():
    table = texts(original=1.0, unlearned=1.0)
    kinds = ("prose", "code", "code", "code", "code", "code")
    items = {
        name: replace(item, relation=kinds[place % 6])
        for place, (name, item) in enumerate(table.items["generic"].items())
    }
    unit = Unit(role="unlearned", split="generic", kind="scores")
    rows = {
        name: replace(
            row, logp=tuple(x - 0.5 * (items[name].relation == "prose") for x in row.logp)
        )
        for name, row in table.scores[unit].items()
    }
    table = replace(table, items={"generic": items}, scores={**table.scores, unit: rows}, known={})
    gates = {gate.name: gate for gate in general_gates(case(table, 0))}
    assert gates["general text: prose"].status is Status.FAIL
    assert gates["general text: code"].status is Status.PASS
    assert [gate.part for gate in gates.values()] == [False, True, True]


def test_neighbours_know_how_models_differ():
    table = answered("neighbours", original=0, unlearned=48, gold_0=16, gold_1=48)
    (gate,) = locality_gates(case(table, 2))
    assert gate.status is Status.PASS
    (gate,) = locality_gates(case(table, 1))
    assert (gate.status, gate.margin) == (Status.FAIL, pytest.approx(0.0566, abs=1e-4))


@pytest.mark.parametrize(
    ("golds", "wrong", "status"),
    [
        ((1, 2), 2, Status.PASS),  # a gold in the place of the unlearned model
        ((1,), 1, Status.PASS),
        ((1,), 2, Status.PASS),  # one of 24 more: models differ by as much, McNemar p = .5
        ((1,), 3, Status.INCONCLUSIVE),  # two more: p = .25, beyond the margin
        ((1,), 5, Status.INCONCLUSIVE),  # four more: p = .06
        ((1,), 6, Status.FAIL),  # five more: p = .03
        ((1, 24), 12, Status.FAIL),
    ],
)
def test_few_neighbours_may_fail_as_models_differ(golds, wrong, status):
    roles = {f"gold_{index}": count for index, count in enumerate(golds)}
    table = answered("neighbours", n=24, original=0, unlearned=wrong, **roles)
    (gate,) = locality_gates(case(table, len(golds)))
    assert gate.status is status, gate


def likely(**probability: dict[str, float]) -> Table:
    """Sixty records of five tokens a set; each model gives each set one probability a token."""
    items: dict[str, dict[str, Item]] = {}
    scores: dict[Unit, dict[str, Scores]] = {}
    for role, sets in probability.items():
        for split, p in sets.items():
            names = [f"{split}{i}" for i in range(60)]
            items[split] = {n: Item(record=n, split=split, question="q", answer="a") for n in names}
            logp = (math.log(p),) * 5
            scores[Unit(role=role, split=split, kind="scores")] = {
                n: Scores(record=n, logp=logp, hit=(p > 0.5,) * 5, z=logp, ends=False, zlib=9)
                for n in names
            }
    return Table(items=items, scores=scores, answers={})


@pytest.mark.parametrize(
    ("unseen", "after", "metric", "loss", "status"),
    [
        ({"holdout": 0.2}, 0.77, "probability", 0.05, Status.PASS),  # 0.03 of 0.8 - 0.2
        ({"holdout": 0.2}, 0.74, "probability", 0.10, Status.FAIL),
        ({"holdout": 0.2}, 0.20, "probability", 1.0, Status.FAIL),
        ({"control": 0.5}, 0.77, "probability", 0.10, Status.FAIL),  # 0.03 of 0.8 - 0.5
        ({"holdout": 0.2, "control": 0.5}, 0.77, "probability", 0.05, Status.PASS),
        ({"holdout": 0.8}, 0.77, "extraction-strength", 0.0, Status.PASS),
        ({}, 0.77, "extraction-strength", 0.0, Status.PASS),
        ({}, 0.20, "extraction-strength", 1.0, Status.FAIL),
    ],
)
def test_answers_without_key_facts_count_by_what_lies_above_unseen_ones(
    unseen, after, metric, loss, status
):
    table = likely(original={"retain": 0.8, **unseen}, unlearned={"retain": after + 1e-9})
    (gate,) = retain_gates(case(table, 0))
    assert gate.name == f"{metric} retain"
    assert gate.value == pytest.approx(loss, abs=1e-6)
    assert gate.status is status


@pytest.mark.parametrize(("named", "answers"), [(3, False), (29, False), (30, True)])
def test_answers_stand_beside_probabilities_where_most_records_name_a_fact(named, answers):
    """They fail by themselves and never block; the probability of the same answers decides."""
    table = likely(original={"retain": 0.8, "holdout": 0.2}, unlearned={"retain": 0.2})
    items = {
        name: replace(item, key_answers=("a",) if place < named else ())
        for place, (name, item) in enumerate(table.items["retain"].items())
    }
    said = {
        Unit(role=role, split="retain", kind="answers"): {
            name: Answer(record=name, text="a", given="", nll=1.0) for name in items
        }
        for role in ("original", "unlearned")
    }
    table = replace(table, items={**table.items, "retain": items}, answers=said)
    first, *others = retain_gates(case(table, 0))
    assert (first.name, first.status, first.part) == ("probability retain", Status.FAIL, False)
    assert [gate.name for gate in others] == ["key-fact retain"] * answers
    assert all(gate.part and gate.status is Status.PASS for gate in others)


@pytest.mark.parametrize(
    ("n", "odd", "alarm", "status"),
    [
        (20, 1, True, Status.PASS),
        (20, 2, True, Status.INCONCLUSIVE),
        (20, 6, True, Status.FAIL),
        (5, 1, True, Status.INCONCLUSIVE),
        (20, 1, False, Status.INCONCLUSIVE),
    ],
)
def test_one_odd_answer_of_few_is_what_retrained_models_write_too(n, odd, alarm, status):
    clusters = tuple(f"c{i}" for i in range(n))
    sides = [Sample((np.arange(n) < count).astype(float), clusters) for count in (odd, 0)]
    found = Damage(subject=sides[0], reference=sides[1], reference_role="gold")
    gate = damage_gate(Axis.UTILITY, "malformed", found, policy=0.03, seed=0, alarm=alarm)
    assert gate.status is status


@pytest.mark.parametrize(("n", "status"), [(1, Status.INCONCLUSIVE), (5, Status.PASS)])
def test_one_record_that_is_kept_does_not_tell_how_others_fare(n, status):
    names = tuple(map(str, range(n)))
    sample = [Sample(values=np.full(n, level), clusters=names) for level in (0.011, 0.01)]
    found = Damage(subject=sample[0], reference=sample[1], reference_role="original")
    gate = damage_gate(Axis.UTILITY, "probability retain", found, policy=0.05, seed=0)
    assert gate.status is status
    assert (gate.low is None) is (n == 1)
    assert ("no interval" in measured(gate)) is (n == 1)


def test_a_gold_that_was_not_asked_is_left_out():
    found = damage(
        case(answered("retain", original=0, unlearned=8, gold_0=4), 2), Measure(KEY_FACT), "retain"
    )
    assert found is not None
    assert (found.reference_role, found.new, found.mended) == ("gold", 4, 0)


def test_whatever_one_gold_does_the_gate_stays_shut_to_real_damage():
    """Property: the excuse is at most 15 points beyond the worse of original and better gold."""
    rng = np.random.default_rng(0)
    for levels in rng.random((200, 3)):
        named = dict(zip(("original", "gold-0", "gold-1"), levels.tolist(), strict=True))
        allowed = named[reference_role(named, ("gold-0", "gold-1"))]
        margin = margin_of(0.05, model_spread([np.full(9, x) for x in levels]), cap=COLLAPSE)
        assert margin.passes <= margin.fails <= COLLAPSE
        assert allowed <= max(named["original"], min(named["gold-0"], named["gold-1"]))


def test_every_gold_is_asked_whatever_is_gated(world, bench):
    settings = world.settings(request={"gold": (world.gold, world.gold)})
    folder = expunge.audit(settings, model=world.original).folder
    units = EvidenceStore(folder / "evidence").units()

    def of(role: str) -> set[tuple[str, str, str]]:
        kinds = ("scores", "answers")
        return {(u.split, u.test, u.kind) for u in units if u.role == role and u.kind in kinds}

    assert of("gold-0") == of("gold-1")
    assert {("generic", "plain", "scores"), ("retain", "plain", "answers")} <= of("gold-1")


@pytest.mark.parametrize(
    ("held", "status", "names"),
    [
        # 20 of 60 were never rehearsed, and those are what is lost.
        (20, Status.FAIL, ["key-fact retain", "key-fact retain: rehearsed"]),
        # So few that they cannot decide: all of them do, and 9 of 60 are 15 %.
        (9, Status.FAIL, ["key-fact retain"]),
        (0, Status.PASS, ["key-fact retain"]),
    ],
)
def test_what_was_never_rehearsed_decides(held, status, names):
    table = answered("retain", n=60, original=0, unlearned=held, gold_0=0)
    items = {
        name: replace(item, rehearsed=place >= held)
        for place, (name, item) in enumerate(table.items["retain"].items())
    }
    gates = retain_gates(case(replace(table, items={"retain": items}), 1))
    assert [gate.name for gate in gates] == names
    assert gates[0].status is status
    if len(gates) > 1:
        assert (gates[0].n, gates[1].status, gates[1].part) == (held, Status.PASS, True)
