"""The table of papers has a row for every method."""

from pathlib import Path

import pytest

from expunge.methods import EVERY

PAPERS = (Path(__file__).parents[2] / "docs" / "catalogue" / "papers.md").read_text("utf-8")


@pytest.mark.parametrize("name", EVERY)
def test_every_method_is_in_the_papers(name):
    kind = EVERY[name]
    assert f"--method {name}" in PAPERS
    assert f"{kind.__module__.removeprefix('expunge.').replace('.', '/')}.py" in PAPERS
