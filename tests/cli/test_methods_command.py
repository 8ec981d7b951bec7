"""`expunge methods`: the list is the table, and what it says is read off the terms."""

import json

import pytest

from expunge.cli.main import main
from expunge.methods import EVERY, build
from expunge.methods.base import FAMILIES
from expunge.methods.describe import describe
from expunge.optim import described_wrappers


def test_the_list_names_every_method_under_its_family(capsys):
    assert main(["methods"]) == 0
    said = capsys.readouterr().out
    for name in EVERY:
        assert f"{name}: " in said
    assert all(family in said for family in FAMILIES)
    for wrapper in described_wrappers():
        assert f"{wrapper.name}: {wrapper.advice}" in " ".join(said.split())


def test_one_method_shows_formula_and_knobs(capsys):
    assert main(["methods", "npo"]) == 0
    said = capsys.readouterr().out
    assert "L = -(2/beta) (1/B) sum_i log sigma(-beta Delta_i)" in said
    assert "beta 0.1, gamma 1.0, alpha 1.0, retain nll" in said
    assert "arXiv:2404.05868" in said


@pytest.mark.parametrize("wrapper", described_wrappers(), ids=lambda wrapper: wrapper.name)
def test_one_wrapper_shows_formula_knobs_and_how_it_is_chosen(wrapper, capsys):
    assert main(["methods", wrapper.name.upper()]) == 0
    said = capsys.readouterr().out
    assert f"--set {wrapper.table}.name={wrapper.name}" in said
    assert wrapper.formula.splitlines()[0].split(" (arXiv")[0][:40] in said
    assert all(f"{knob} {value}" in " ".join(said.split()) for knob, value in wrapper.defaults)


def test_no_wrapper_is_called_like_a_method():
    assert not {wrapper.name for wrapper in described_wrappers()} & set(EVERY)


def test_a_wrong_name_suggests_a_right_one(capsys):
    for wrong in ("npoo", "NPO"):
        assert main(["methods", wrong]) == 2
        assert "did you mean npo?" in capsys.readouterr().err


def test_as_json(capsys):
    assert main(["--format", "json", "methods"]) == 0
    last = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert {"npo", "ssd"} <= set(last["names"])


@pytest.mark.parametrize(
    ("name", "data", "keeps", "cost"),
    [
        ("ga", ("forget",), (), "2 F a step, 3 F with --full"),
        ("npo", ("forget", "retain"), ("log-probabilities",), "4 F a step, 6 F with --full"),
        ("undial", ("forget",), ("last hidden states",), "2 F a step, 3 F with --full"),
        ("rmu", ("forget", "retain"), ("hidden states",), "1.1 F a step, 1.7 F with --full"),
        ("dpo", ("alternatives", "forget", "retain"), ("log-probabilities",), "6 F a step"),
    ],
)
def test_needs_and_cost_come_from_the_terms(name, data, keeps, cost):
    found = describe(name, build(name, {}))
    assert (found.data, found.keeps) == (data, keeps)
    assert found.cost.startswith(cost)


@pytest.mark.parametrize("name", EVERY)
def test_every_method_can_be_described(name):
    found = describe(name, build(name, {}))
    assert found.family in FAMILIES
    assert "arXiv:" in found.formula
    assert len(found.advice) < 90
