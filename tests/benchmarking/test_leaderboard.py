"""The leaderboard: how models stand, which settings are shown, numbers against gold, pages.

And suites whose probes tell what is known: what is left of it, against the original, by hand.
"""

import json
from dataclasses import replace

import pytest

from bench_results import gate, method, row, tree
from expunge.benchmarking.leaderboard import (
    ParetoPoint,
    Related,
    front,
    front_of,
    leaderboard,
    near_front,
    over_seeds,
    probe_gates,
    reduced,
    relative,
)
from expunge.benchmarking.leaderboard import best as best_of
from expunge.benchmarking.leaderboard_pages import (
    NONE,
    axis_table,
    drawing,
    row_table,
    sentences,
    to_html,
    to_markdown,
    write_pages,
)
from expunge.benchmarking.protocol import Protocol, open_protocol
from expunge.benchmarking.result import Cell, axis_scores, lay_out, weakest, write_row
from expunge.benchmarking.suites import SUITES
from expunge.benchmarking.suites.base import Spec
from expunge.evals.results import Score
from expunge.metrics.outcomes import Axis, Status
from expunge.metrics.statistics import Estimate


def test_the_standing_of_a_model_is_its_worst_gate_on_each_axis():
    found = axis_scores(
        [
            gate(Axis.FORGETTING, 0.1),
            gate(Axis.FORGETTING, 0.4, wide=0.1),
            gate(Axis.PRIVACY, -0.1, wide=0.2),
            gate(Axis.ROBUSTNESS, 1.3),
            gate(Axis.UTILITY, 0.1),
            gate(Axis.LOCALITY, 0.0),
            gate(Axis.LOCALITY, 0.3, status=Status.INCONCLUSIVE),
        ]
    )
    assert found[Axis.FORGETTING] == pytest.approx((0.6, 0.5, 0.7))
    assert found[Axis.PRIVACY] == pytest.approx((0.9, 0.7, 1.0))
    assert found[Axis.ROBUSTNESS] == (0.0, 0.0, 0.0)
    assert found[Axis.UTILITY].value == pytest.approx(0.75), "exactly at the margin"
    assert found[Axis.LOCALITY].value == 1.0, "a relation of few records does not decide"
    assert weakest(found).value == 0.0
    assert axis_scores([]) == {}
    assert weakest({}) is None


def at(erased, kept, wide=0.0):
    return ParetoPoint(
        Estimate(erased, erased - wide, erased + wide), Estimate(kept, kept - wide, kept + wide)
    )


def test_the_front_is_what_nothing_else_beats_on_both_counts():
    points = [at(0.9, 0.2), at(0.5, 0.5), at(0.5, 0.4), at(0.1, 0.9), at(0.5, 0.5)]
    assert front(points) == [True, True, False, True, True]
    unsure = [at(0.5, 0.5, 0.2), at(0.45, 0.45, 0.2), at(0.0, 0.0, 0.05)]
    assert front(unsure) == [True, False, False]
    assert near_front(unsure) == [True, True, False]


def best(rows, **settings):
    return best_of(rows, protocol=Protocol(settings=tree(**settings)))


def test_the_setting_that_stands_for_a_method_keeps_what_it_must():
    wild = row(method("npo", a=1), erased=0.0, lost=0.3)
    mild = row(method("npo", a=2), erased=0.3, lost=0.05)
    weak = row(method("npo", a=3), erased=0.6, lost=0.0)
    failure = row(method("npo", a=4), status="failed")
    assert best([wild, mild, weak, failure]) is mild
    assert best([wild, row(method("npo", a=5), erased=0.0, lost=0.2)]).cell.values == {"a": 5}
    assert best([failure]) is None
    # Nothing was known by heart: no axis of what was erased can be computed.
    gates = tuple((gate(Axis.UTILITY, lost),) for lost in (0.05, 0.01))
    dull, keen = (replace(row(method("npo")), gates=each) for each in gates)
    assert best([dull, keen]) is keen


def test_where_the_weakest_axis_is_the_same_the_next_one_decides(tmp_path):
    """Membership often stands at 0 whatever is tried: then keeping more is not all that counts."""

    def told(name, forgetting, lost):
        gates = (
            gate(Axis.FORGETTING, forgetting),
            gate(Axis.PRIVACY, 0.5),
            gate(Axis.UTILITY, lost),
        )
        return replace(row(method(name)), gates=gates)

    little, much = told("npo", 0.9, 0.0), told("npo", 0.3, 0.05)
    assert best([little, much]) is much
    second = replace(method("npo"), values={"a": 1})
    more = replace(told("npo", 0.3, 0.01), cell=second)
    assert best([much, more]) is more, "as much erased, more kept"
    open_protocol(tmp_path, Protocol(settings=tree()))
    for each in (told("npo", 0.9, 0.0), told("simnpo", 0.3, 0.0)):
        write_row(lay_out(tmp_path, each.cell), each)
    assert [line.name for line in leaderboard(tmp_path).lines] == ["simnpo", "npo"]


def test_numbers_against_gold_come_from_two_rows():
    def auc(value):
        return Score(
            metric="auc-min-k-40",
            role="unlearned",
            split="forget",
            attack="plain",
            value=value,
            n=30,
        )

    ratios = {f"r{i}": float(i) for i in range(40)}
    gold = row(
        Cell(kind="gold", name="gold-0"), numbers=[auc(0.5)], columns={"truth-ratio": ratios}
    )
    far = {name: value + 100 for name, value in ratios.items()}
    own = row(method("npo"), numbers=[auc(0.75)], columns={"truth-ratio": far})
    found = relative(own, [gold])
    assert found["ks-distance"] == (1.0, 40)
    assert found["forget-quality"] == pytest.approx((1.86e-23, 40), rel=1e-2)
    assert found["privleak"] == pytest.approx((-50.0, 30))
    assert relative(gold, [gold]) == {}


@pytest.mark.parametrize(
    ("values", "p", "others"),
    [([0.5], 0.5, 0.5), ([1e-8, 1e-2], 1e-5, 0.005), ([0.0, 0.5], 0.0, 0.25), ([], None, None)],
)
def test_numbers_against_gold_are_reduced_over_seeds(values, p, others):
    each = [
        {name: Related(value, 40 + place) for name in ("forget-quality", "privleak")}
        for place, value in enumerate(values)
    ]
    found = reduced([*each, {}])
    if not values:
        assert found == {}
        return
    assert found["forget-quality"] == pytest.approx((p, 40))
    assert found["privleak"] == pytest.approx((others, 40), rel=1e-5)


def test_the_leaderboard_holds_every_seed_against_gold(tmp_path):
    open_protocol(tmp_path, Protocol(settings=tree()))
    ratios = {f"r{n}": float(n) for n in range(40)}
    moved = {name: value + 20 for name, value in ratios.items()}
    gold = Cell(kind="gold", name="gold-0")
    for cell, values in ((gold, ratios), (method("npo"), ratios), (method("npo", 1), moved)):
        write_row(lay_out(tmp_path, cell), row(cell, columns={"truth-ratio": values}))
    found = leaderboard(tmp_path)
    told = row_table(found)
    assert found.lines[-1].relative["ks-distance"] == (0.25, 40)
    assert ["ks-distance (against gold)", NONE, "0.25 (n=40)"] in told["numbers"][1]
    assert any("geometric" in sentence for sentence in told["sentences"])


def test_the_leaderboard_shows_seeds_budget_failures_and_golds(tmp_path):
    open_protocol(tmp_path, Protocol(settings=tree(), trials=2))
    rows = [
        row(Cell(kind="original", name="original"), erased=1.0),
        row(Cell(kind="gold", name="gold-0"), erased=0.0),
        row(method("npo"), erased=0.5),
        row(method("npo", **{"train.lr": 1e-3}), erased=0.2),
        row(method("npo", 1, **{"train.lr": 1e-3}), erased=0.4),
        row(method("ga"), erased=0.0, lost=0.4),
        row(method("rmu"), status="failed", why="no-layer: <there> is none"),
    ]
    for each in rows:
        write_row(lay_out(tmp_path, each.cell), each)
    found = leaderboard(tmp_path)
    lines = {line.name: line for line in found.lines}
    assert [line.name for line in found.lines] == ["original", "gold-0", "npo", "ga", "rmu"]
    assert lines["npo"].axes[Axis.FORGETTING] == pytest.approx((0.7, 0.55, 0.85))
    assert (lines["npo"].tried, len(lines["npo"].rows), lines["rmu"].failed) == (2, 2, 1)
    assert set(found.on_front) == {"npo", "ga"}
    told = json.loads(json.dumps(row_table(found)))
    text, page = to_markdown(told), to_html(told, drawing=drawing(found))
    assert "train.lr = 0.001" in text
    assert "2 settings" in text
    assert "rmu-s0" in text
    assert "delete its folder" in text
    assert "delete its folder" in page
    assert "leak under int4" in text
    assert "&lt;there&gt;" in page
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert over_seeds([]) == {}


PLAIN = {"method": {"name": "npo"}}
KEPT = {"train": {"adapter": True}}


@pytest.mark.parametrize(
    ("shared", "goal", "rows", "order", "starred", "chosen"),
    [
        # Name of the method and its ruling, the one that looks best first.
        (PLAIN, "removal", [("npo", "INVALID"), ("ga", "PASS")], ["ga", "npo"], ["ga"], "ga"),
        (PLAIN, "removal", [("icul", "PASS"), ("ga", "FAIL-DAMAGE")], ["ga", "icul"], ["ga"], "ga"),
        (PLAIN, "edit", [("icul", "PASS"), ("ga", "PASS")], ["icul", "ga"], ["icul"], "icul"),
        (KEPT, "removal", [("npo", "PASS"), ("ssd", "PASS")], ["ssd", "npo"], ["ssd"], "ssd"),
        (KEPT, "removal", [("npo", "PASS"), ("ga", "PASS")], ["npo", "ga"], [], "npo"),
        (PLAIN, "removal", [("icul", "INVALID"), ("npo", "INVALID")], ["npo", "icul"], [], None),
        (
            PLAIN,
            "removal",
            [("npo", "INVALID"), ("icul", "PASS"), ("ga", "PASS")],
            ["ga", "icul", "npo"],
            ["ga"],
            "ga",
        ),
    ],
)
def test_what_is_invalid_or_no_removal_stands_below_and_off_the_front(
    tmp_path, shared, goal, rows, order, starred, chosen
):
    request = {"goal": goal, "forget": ("f.jsonl",)}
    protocol = open_protocol(tmp_path, Protocol(settings=tree(request=request, **shared)))
    made = [
        replace(row(method(name), erased=place / 10, lost=place / 100), ruling=ruling)
        for place, (name, ruling) in enumerate(rows)
    ]
    for each in made:
        write_row(lay_out(tmp_path, each.cell), each)
    found = leaderboard(tmp_path)
    assert [line.name for line in found.lines if line.rows] == order
    assert list(found.on_front) == starred
    assert [each.cell.name for each in front_of(made, protocol=protocol)] == starred
    best = best_of(made, protocol=protocol)
    assert (best and best.cell.name) == chosen
    said, told = " ".join(row_table(found)["sentences"]), axis_table(found)[1]
    assert [line[-6] for line in told] == [dict(rows)[name] for name in order]
    assert ("the auditor failed its own test" in said) is ("INVALID" in dict(rows).values())
    covering = {"icul"} if shared is PLAIN else {"npo", "ga"}
    covering &= set(order) if goal == "removal" else set()
    assert ("leaves the weights unchanged" in said) is bool(covering)
    write_pages(tmp_path)
    taken = json.loads((tmp_path / "chosen.json").read_text(encoding="utf-8"))
    assert taken.keys() == {name for name, ruling in rows if ruling != "INVALID"}


def test_an_invalid_run_is_neither_chosen_nor_averaged(tmp_path):
    open_protocol(tmp_path, Protocol(settings=tree(), trials=2))
    wild, mild = method("npo", **{"train.lr": 1e-3}), method("npo")
    rows = [
        replace(row(wild, erased=0.0), ruling="INVALID"),
        row(mild, erased=0.4),
        row(replace(mild, seed=1), erased=0.6),
        replace(row(replace(mild, seed=2), erased=0.0), ruling="INVALID"),
    ]
    for each in rows:
        write_row(lay_out(tmp_path, each.cell), each)
    found = leaderboard(tmp_path)
    (line,) = found.lines
    assert (len(line.rows), line.tried) == (2, 2)
    assert line.axes[Axis.FORGETTING].value == pytest.approx(0.5)
    assert found.on_front == ("npo",)
    said = " ".join(row_table(found)["sentences"])
    assert all((each.cell.id in said) is (each.ruling == "INVALID") for each in rows)


PROTOCOLS = {
    name: Protocol(settings=tree(), suite=Spec(name=name, data="d")) for name in ("rwku", "wmdp")
}
ORIGINAL = Cell(kind="original", name="original")
KEPT_GATE = (gate(Axis.UTILITY, 0.0), gate(Axis.LOCALITY, 0.0))
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
    return replace(row(cell, numbers=numbers), gates=(*RECITED, *KEPT_GATE))


def test_what_is_left_is_a_share_of_what_the_original_knew():
    first = told(ORIGINAL, "rwku", (0.4, 0.8, 0.5))
    second = told(method("npo"), "rwku", (0.1, 0.4, 0.5))
    before, after = probe_gates([first, second], PROTOCOLS["rwku"])
    assert after.gates[: len(KEPT_GATE)] == KEPT_GATE, "that nothing is recited is no forgetting"
    gates = after.gates[len(KEPT_GATE) :]
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
