"""What docs/results/engine.md says was measured is what was measured."""

import json
from pathlib import Path

import pytest

from engine_page import BARS, END, NAMES, START, publish, section
from one_billion import RESULT as BILLION
from one_billion import section as billion

ROOT = Path(__file__).parents[2]

MACHINE = {"processor": "a chip", "threads": 1, "torch": "2.13", "transformers": "5.9"}
PEAK = {"peer": {"peak": 4.0}, "expunge": {"peak": 2.0, "planned": 2.25}}


def trained(ratio):
    return {
        "ratio_step": ratio,
        "ratio": ratio - 0.25,
        "step_seconds": {"peer": [9.0, 8.0], "expunge": [5.0, 4.0]},
        "pass_seconds": {"peer": 1.0, "expunge": 1.0},
        "peak_share": {"peer": 0.5, "expunge": 0.25},
        "matmul_peak": 1e11,
        "loss_difference": 2e-7,
        "memory": PEAK,
    }


@pytest.mark.parametrize("name", [name for name in BARS if "/" in name])
@pytest.mark.parametrize(("above", "word"), [(0.0, "met"), (-0.01, "not met")])
def test_a_bar_is_met_from_its_number_on(name, above, word):
    ratio = BARS[name] + above
    text = section({"machine": MACHINE, "rows": {"fp32": {name: trained(ratio)}}})
    assert text.startswith("a chip, 1 thread, torch 2.13, transformers 5.9.\n")
    row = (
        f"| {NAMES[name]} | {ratio:.2f} | {BARS[name]:g}: {word} "
        f"| {ratio - 0.25:.2f} | 8.0 | 4.0 | 50% / 25% | 2e-07 |"
    )
    assert row in text.splitlines()
    assert f"| {NAMES[name]} | 4.00 | 2.00 | 2.25 | 0.50 |" in text.splitlines()


def test_shares_are_of_the_fastest_product_that_any_row_saw():
    slow = {**trained(2.0), "matmul_peak": 5e10}
    rows = {"npo/all": slow, "npo/lora": trained(3.0)}
    text = section({"machine": MACHINE, "rows": {"fp32": rows}})
    assert "| 25% / 12% |" in text
    assert "| 50% / 25% |" in text


def test_rows_of_evaluation_and_of_each_format_have_their_tables():
    row = {
        "ratio": 3.5,
        "seconds": {"peer": 7.0, "expunge": 2.0},
        "records": 48,
        "difference": "0 of 48 answers",
    }
    rows = {"fp32": {"answers": row}, "bf16": {"answers": {**row, "ratio": 2.5}}}
    lines = section({"machine": MACHINE, "rows": rows}).splitlines()
    assert "| greedy answers | 3.50 | 3: met | 7.0 | 2.0 | 48 | 0 of 48 answers |" in lines
    assert "| greedy answers | 2.50 | 3: not met | 7.0 | 2.0 | 48 | 0 of 48 answers |" in lines


def test_only_what_lies_between_the_marks_is_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{START}old\n{END}after\n")
    publish("new\n", page)
    assert page.read_text() == f"before\n{START}new\n{END}after\n"


def test_the_page_holds_what_was_measured():
    found = json.loads((ROOT / "benchmarks" / "results" / "engine.json").read_text())
    page = (ROOT / "docs" / "results" / "engine.md").read_text(encoding="utf-8")
    assert f"{START}{section(found)}{END}" in page, "run benchmarks/engine.py"


def test_growth_is_told_by_two_slopes():
    from growth import CURVES, slopes

    linear = {str(p.records): 3.0 + 2e-5 * p.tokens for p in CURVES["records"]}
    assert slopes(linear) == pytest.approx((20.0, 20.0))
    bent = {key: value + (key == "10000") * 1.0 for key, value in linear.items()}
    low, high = slopes(bent)
    assert low == pytest.approx(20.0)
    assert high == pytest.approx(20.0 + 1e6 / (2 * 9000 * 48))


def test_the_page_holds_what_a_step_of_a_billion_weights_was_measured_to_hold():
    found = json.loads(BILLION.read_text())
    assert set(found) == {"bf16", "fp32"}
    assert billion(found) in (ROOT / "docs" / "results" / "engine.md").read_text()
    assert [row["ratio"] for row in found.values()] == [
        row["expunge"] / row["peer"] for row in found.values()
    ]
