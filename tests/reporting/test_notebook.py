"""What a notebook shows of an audit."""

import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from expunge.errors import UsageError
from expunge.evals.results import Gate
from expunge.metrics.outcomes import Axis, Status
from expunge.reporting.notebook import results_html, results_table
from expunge.reporting.schema import read_results
from synthetic_run import build_run

EVIL = "<script>alert('x')</script>"
VOID = {"br"}


class Tags(HTMLParser):
    """Holds the tags of a page, and whether each is closed."""

    def __init__(self):
        super().__init__()
        self.seen, self.open = set(), []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return read_results(build_run(tmp_path_factory.mktemp("run") / "run"))


def test_the_gates_stand_by_axis_below_the_verdict_and_nothing_is_a_script(results):
    gate = Gate(
        axis=Axis.PRIVACY,
        name=EVIL,
        value=None,
        low=None,
        high=None,
        margin=0.1,
        n=0,
        status=Status.NOT_COMPUTABLE,
        reason=EVIL * 20,
    )
    verdict = replace(results.verdict, sentence=EVIL)
    shown = results_html(
        replace(results, gates=(*results.gates, gate), verdict=verdict), folder=EVIL
    )
    tags = Tags()
    tags.feed(shown)
    assert tags.open == []
    assert tags.seen <= {
        "div",
        "p",
        "strong",
        "br",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    } | {"code"}
    assert all(gate.name in shown for gate in results.gates)
    assert re.findall(r'scope="rowgroup">(\w+)', shown) == [*Axis]
    assert len(shown) < 10_000


def test_the_table_has_a_row_for_each_gate_with_its_bounds(results):
    table = results_table(results)
    wanted = [(g.axis.value, g.status.value, g.value, g.high, g.margin) for g in results.gates]
    columns = ["axis", "status", "value", "high", "margin"]
    found = table[columns].astype(object).where(table[columns].notna(), None)
    assert [tuple(row) for row in found.values.tolist()] == wanted


@pytest.mark.parametrize(
    ("code", "rows", "hidden"), [("unknown-rows", "gate", ()), ("no-pandas", "gates", ("pandas",))]
)
def test_a_table_that_cannot_be_made_says_why(results, monkeypatch, code, rows, hidden):
    for name in hidden:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError) as found:
        results_table(results, rows)
    assert found.value.code == code
