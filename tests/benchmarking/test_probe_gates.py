"""Suites whose probes tell what is known: what is left of it, against the original, by hand."""

from dataclasses import replace

import pytest

from bench_results import gate, method, row, tree
from expunge.benchmarking.leaderboard import leaderboard, probe_gates
from expunge.benchmarking.leaderboard_pages import sentences
from expunge.benchmarking.protocol import Protocol, open_protocol
from expunge.benchmarking.result import Cell, lay_out, write_row
from expunge.benchmarking.suites import SUITES
from expunge.benchmarking.suites.base import Spec
from expunge.evals.results import Score
from expunge.metrics.outcomes import Axis, Status

PROTOCOLS = {
    name: Protocol(settings=tree(), suite=Spec(name=name, data="d")) for name in ("rwku", "wmdp")
}
ORIGINAL = Cell(kind="original", name="original")
KEPT = (gate(Axis.UTILITY, 0.0), gate(Axis.LOCALITY, 0.0))
RECITED = (gate(Axis.FORGETTING, 0.0), gate(Axis.ROBUSTNESS, 0.0, name="leak under int4"))
"""Gates of the audit of the records, which nobody recites, before or after."""


def number(known, value, wide=0.1):
    return Score(
        metric=known.metric,
        role="unlearned",
        split=known.probe,
        attack="plain",
        value=value,
        low=None if value is None else value - wide,
        high=None if value is None else value + wide,
        n=20,
    )


def told(cell, suite, values, wide=0.1):
    numbers = [number(*pair, wide) for pair in zip(SUITES[suite].known, values, strict=True)]
    return replace(row(cell, numbers=numbers), gates=(*RECITED, *KEPT))


def test_what_is_left_is_a_share_of_what_the_original_knew():
    first = told(ORIGINAL, "rwku", (0.4, 0.8, 0.5))
    second = told(method("npo"), "rwku", (0.1, 0.4, 0.5))
    before, after = probe_gates([first, second], PROTOCOLS["rwku"])
    assert after.gates[: len(KEPT)] == KEPT, "that nothing is recited is no forgetting"
    gates = after.gates[len(KEPT) :]
    assert [g.name for g in gates] == [f"rouge-l-recall-stem forget_level{n}" for n in (1, 2, 3)]
    assert [g.axis for g in gates] == [Axis.FORGETTING, Axis.FORGETTING, Axis.ROBUSTNESS]
    assert [g.value for g in gates] == pytest.approx([0.25, 0.5, 1.0])
    assert gates[1].low == pytest.approx(0.3 / 0.9)
    assert gates[1].high == pytest.approx(0.5 / 0.7)
    assert {g.n for g in gates} == {20}
    assert before.axis_scores()[Axis.FORGETTING].value == 0.0
    found = after.axis_scores()
    assert found[Axis.FORGETTING].value == pytest.approx(0.5), "the level of which most is left"
    assert found[Axis.ROBUSTNESS].value == 0.0


def test_chance_is_nothing_known():
    first = told(ORIGINAL, "wmdp", (0.65, 0.45))
    second = told(method("rmu"), "wmdp", (0.25, 0.2))
    gates = probe_gates([second, first], PROTOCOLS["wmdp"])[0].gates[-2:]
    assert [g.value for g in gates] == pytest.approx([0.0, -0.25])
    assert (
        probe_gates([second, first], PROTOCOLS["wmdp"])[0].axis_scores()[Axis.FORGETTING].value
        == 1.0
    )


@pytest.mark.parametrize(("value", "wide"), [(0.3, 0.1), (None, 0.1)])
def test_where_the_original_is_not_surely_above_chance_nothing_is_computed(value, wide):
    first = told(ORIGINAL, "wmdp", (value, 0.45), wide)
    second = told(method("rmu"), "wmdp", (0.25, 0.25), wide)
    gates = probe_gates([first, second], PROTOCOLS["wmdp"])[1].gates[-2:]
    assert [g.status is Status.NOT_COMPUTABLE for g in gates] == [True, False]
    assert "not surely above 0.25 on choice-accuracy choices" in gates[0].reason
    nothing = probe_gates([first, second], PROTOCOLS["wmdp"])[1].axis_scores().keys()
    assert nothing == {Axis.FORGETTING, Axis.UTILITY, Axis.LOCALITY}, "by the other number"


@pytest.mark.parametrize(
    ("rows", "protocol"),
    [
        ([told(method("npo"), "rwku", (0.1, 0.4, 0.5))], PROTOCOLS["rwku"]),
        ([row(ORIGINAL), row(method("npo"))], Protocol(settings=tree())),
        ([row(ORIGINAL)], Protocol(settings=tree(), suite=Spec(name="tofu", data="d"))),
        ([row(method("npo"), status="failed")], PROTOCOLS["rwku"]),
    ],
    ids=["without its original", "own request", "a suite that is recited", "failed"],
)
def test_other_rows_stay_as_they_are(rows, protocol):
    assert probe_gates(rows, protocol) == rows


def test_the_leaderboard_ranks_by_it_and_says_so(tmp_path):
    shared = tree(request={"goal": "suppression", "forget": ("f",), "assume_known": True})
    open_protocol(tmp_path, Protocol(settings=shared, suite=Spec(name="rwku", data="d")))
    reached = ((ORIGINAL, (0.4, 0.8, 0.5)), (method("npo"), (0.1, 0.4, 0.3)))
    for cell, values in (*reached, (method("rmu"), (0.4, 0.4, 0.4))):
        write_row(lay_out(tmp_path, cell), told(cell, "rwku", values))
    found = leaderboard(tmp_path)
    assert [line.name for line in found.lines] == ["original", "npo", "rmu"]
    npo = found.lines[1]
    assert npo.weakest.value == pytest.approx(0.4)
    assert found.on_front == ("npo",)
    assert any("the suite's own numbers" in line for line in sentences(found))
