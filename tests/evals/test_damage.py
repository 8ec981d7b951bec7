"""Preservation against golds that differ: tables computed by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

import expunge
from expunge.evals.axes.locality import locality_gates
from expunge.evals.axes.utility import perplexity_gate, retain_gate
from expunge.evals.comparison import Comparison
from expunge.evals.damage import COLLAPSE, Measure, damage, middle, reference_role, spread, widened
from expunge.evals.evidence_table import Table
from expunge.evidence.context import Policy
from expunge.evidence.store import Answer, EvidenceStore, Item, Scores, Unit
from expunge.metrics.base import KEY_FACT
from expunge.metrics.outcomes import Status

N = 400


def case(table: Table, golds: int) -> Comparison:
    roles = tuple(f"gold-{index}" for index in range(golds))
    return Comparison(
        table=table, subject="unlearned", golds=roles, policy=Policy(), seed=0
    )


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
    ("policy", "sd", "margin"),
    [(0.05, 0.0, 0.05), (0.05, 0.02, 0.05), (0.05, 0.04, 0.08), (0.05, 9.0, 0.15), (0.2, 9.0, 0.2)],
)
def test_margins_widen_by_what_golds_differ_up_to_a_collapse(policy, sd, margin):
    assert widened(policy, sd) == pytest.approx(margin)


def test_one_gold_has_no_spread():
    assert spread([0.4]) == 0.0
    assert spread([0.04, 0.12]) == pytest.approx(0.08 / math.sqrt(2))


@pytest.mark.parametrize(
    ("golds", "wrong", "status", "margin"),
    [
        # 32 of 384 right answers of gold-0 are lost: 8.3 %, at most 11.0 %.
        ((16,), 48, Status.FAIL, 0.05),
        # The golds differ by 4 % and 12 %: SD 5.66 points, 2 SD of 96 % right answers 11.8 %.
        ((16, 48), 48, Status.PASS, 0.1179),
        # A real loss is beyond what golds differ: 64 of 384, 16.7 %, at least 13.8 %.
        ((16, 48), 80, Status.FAIL, 0.1179),
        # A gold that lost everything widens the margin to 15 %, and is no reference.
        ((16, 400), 48, Status.PASS, 0.15),
        ((16, 400), 120, Status.FAIL, 0.15),
        # Three golds: the middle one is the reference, SD 2 points.
        ((16, 24, 8), 40, Status.INCONCLUSIVE, 0.05),
        ((16, 24, 8), 20, Status.PASS, 0.05),
        # Golds that agree on a loss excuse it.
        ((80, 84), 84, Status.PASS, 0.05),
        ((80, 84), 160, Status.FAIL, 0.05),
    ],
)
def test_retained_answers_against_golds(golds, wrong, status, margin):
    roles = {f"gold_{index}": count for index, count in enumerate(golds)}
    gate = retain_gate(case(answered("retain", original=0, unlearned=wrong, **roles), len(golds)))
    assert (gate.status, gate.margin) == (status, pytest.approx(margin, abs=1e-4)), gate
    assert ("golds differ" in gate.reason) is (gate.margin > 0.05)


@pytest.mark.parametrize(
    ("golds", "times", "status", "margin"),
    [
        ((1.0,), 1.12, Status.FAIL, 0.03),
        ((1.0, 1.2), 1.12, Status.PASS, 0.2828),  # SD 0.141
        ((1.0, 1.2), 1.2, Status.PASS, 0.2828),  # as any gold
        ((1.0, 1.2), 1.3, Status.FAIL, 0.2828),
        ((1.0, 1.04), 1.05, Status.PASS, 0.0566),  # SD 0.0283
        ((1.0, 1.04), 1.07, Status.FAIL, 0.0566),
        ((1.0, 10.0), 1.28, Status.PASS, 0.3),
        ((1.0, 10.0), 1.32, Status.FAIL, 0.3),
        ((1.0, 10.0, 1.1), 1.42, Status.PASS, 0.3),  # the middle gold is 1.1: +29.1 %
        ((1.0, 10.0, 1.1), 1.44, Status.FAIL, 0.3),
        ((0.9, 0.9), 1.02, Status.PASS, 0.03),  # no worse than the original is enough
    ],
)
def test_perplexity_against_golds(golds, times, status, margin):
    roles = {f"gold_{index}": ratio for index, ratio in enumerate(golds)}
    gate = perplexity_gate(case(texts(original=1.0, unlearned=times, **roles), len(golds)))
    assert (gate.status, gate.margin) == (status, pytest.approx(margin, abs=1e-4)), gate


def test_neighbours_and_relations_know_what_golds_differ():
    table = answered("neighbours", original=0, unlearned=48, gold_0=16, gold_1=48)
    (gate,) = locality_gates(case(table, 2))
    assert (gate.status, gate.margin) == (Status.PASS, pytest.approx(0.08 * math.sqrt(2)))
    (gate,) = locality_gates(case(table, 1))
    assert (gate.status, gate.margin) == (Status.FAIL, 0.05)


@pytest.mark.parametrize(
    ("golds", "wrong", "status"),
    [
        ((1, 2), 2, Status.PASS),  # a gold in the place of the unlearned model
        ((1, 2), 3, Status.INCONCLUSIVE),  # 2 of 24 more, golds differ by 2 SD = 1.4 of 24
        ((1,), 2, Status.INCONCLUSIVE),
        ((1,), 1, Status.PASS),
        ((1, 24), 4, Status.PASS),  # 3 of 24 are less than 15 points
        ((1, 24), 5, Status.INCONCLUSIVE),
        ((1, 24), 12, Status.FAIL),
    ],
)
def test_few_neighbours_may_fail_as_golds_do(golds, wrong, status):
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
    gate = retain_gate(case(table, 0))
    assert gate.name == f"{metric} retain"
    assert gate.value == pytest.approx(loss, abs=1e-6)
    assert gate.status is status


@pytest.mark.parametrize(
    ("named", "metric"), [(3, "probability"), (29, "probability"), (30, "key-fact")]
)
def test_a_few_key_answers_do_not_speak_for_all_others(named, metric):
    table = likely(original={"retain": 0.8, "holdout": 0.2}, unlearned={"retain": 0.2})
    items = {
        name: replace(item, key_answers=("a",) if place < named else ())
        for place, (name, item) in enumerate(table.items["retain"].items())
    }
    answers = {
        Unit(role=role, split="retain", kind="answers"): {
            name: Answer(record=name, text="a", given="", nll=1.0) for name in items
        }
        for role in ("original", "unlearned")
    }
    table = replace(table, items={**table.items, "retain": items}, answers=answers)
    gate = retain_gate(case(table, 0))
    assert gate.name == f"{metric} retain"
    assert (gate.status is Status.FAIL) is (metric == "probability")


def test_a_gold_that_was_not_asked_is_left_out():
    found = damage(
        case(answered("retain", original=0, unlearned=8, gold_0=4), 2), Measure(KEY_FACT), "retain"
    )
    assert found is not None
    assert (found.reference_role, found.spread, found.new) == ("gold", 0.0, 4)


def test_whatever_one_gold_does_the_gate_stays_shut_to_real_damage():
    """Property: with two golds the excuse is at most 15 points beyond original and better gold."""
    rng = np.random.default_rng(0)
    for levels in rng.random((200, 3)):
        named = dict(zip(("original", "gold-0", "gold-1"), levels.tolist(), strict=True))
        allowed = named[reference_role(named, ("gold-0", "gold-1"))]
        margin = widened(0.05, spread([named["gold-0"], named["gold-1"]]))
        assert margin <= COLLAPSE
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
