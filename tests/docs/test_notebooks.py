"""The notebooks run from the first cell to the last, and the stored ones show tables."""

import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKER = runpy.run_path(str(ROOT / "scripts" / "make_notebooks.py"))
NOTEBOOKS = MAKER["notebooks"]()
SAID = {
    "first-erasure": r"(PASS|INCONCLUSIVE)",
    "audit-a-model": r"FAIL-RESIDUAL",
    "compare-methods": r"\b(npo|graddiff|simnpo)\b",
}
"""What an output must say."""


def outputs(notebook):
    return [each for cell in notebook["cells"] for each in cell.get("outputs", ())]


def html(notebook):
    return ["".join(each["data"]["text/html"]) for each in outputs(notebook) if "data" in each]


def test_there_are_three():
    assert sorted(path.stem for path in NOTEBOOKS) == sorted(SAID)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_are_tables_without_warnings_or_places(path):
    text = path.read_text(encoding="utf-8")
    stored = json.loads(text)
    tables = html(stored)
    assert len(tables) >= 2
    assert all("<table" in table for table in tables)
    assert re.search(SAID[path.stem], " ".join(tables))
    assert {each["output_type"] for each in outputs(stored)} == {"execute_result"}
    assert not re.search(r"/home/|/root/|/tmp/|site-packages", text)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    ran = MAKER["executed"](path, tmp_path)
    assert len(html(ran)) == len(html(json.loads(path.read_text(encoding="utf-8"))))
    assert re.search(SAID[path.stem], " ".join(html(ran)))
