"""A recipe from its name to the table, on a tiny model that learns a few facts in seconds."""

import json
from dataclasses import replace

import pytest

import tiny
from expunge.benchmarking.suites.base import Probe, plain
from expunge.config.request import Goal
from expunge.config.settings import TrainSettings
from expunge.data.readers import read
from expunge.data.records import Message, Record
from expunge.errors import InputError, UsageError
from expunge.recipes import run as recipes
from expunge.recipes.base import AcceptanceRule, Application, ApplicationData
from expunge.recipes.measures import likelihood, stated
from expunge.recipes.pages import request_text
from expunge.utils.io import write_jsonl
from tiny_world import network_knowing


def facts(name, count):
    """Short questions whose answers are taught by heart."""
    return tuple(
        Record(
            id=f"{name}-{place}",
            prompt=(Message("user", f"{name} {place}?"),),
            completion=f"{'jkqvxzw'[place % 7]}{'aeiou'[place % 5]}{name[0].lower()}",
            key_answers=(f"{'jkqvxzw'[place % 7]}{'aeiou'[place % 5]}{name[0].lower()}",),
            subject=name,
        )
        for place in range(count)
    )


def draw(seed):
    forget, retain = facts("Zorvex", 6), facts("Plimko", 8)
    return ApplicationData(
        forget=forget,
        retain=retain,
        taught=retain,
        planted=forget,
        probes=(
            Probe(name="forget", records=forget, answer=6, scored=True),
            Probe(name="retain", records=retain, answer=6),
        ),
    )


def measure(outputs):
    return (
        stated(outputs, "leak", "forget", higher=False),
        likelihood(outputs, "probability", "forget", higher=None),
        stated(outputs, "kept", "retain", higher=True),
    )


STAND_IN = Application(
    name="stand-in",
    goal=Goal.REMOVAL,
    method="npo",
    draw=draw,
    measure=measure,
    problem=AcceptanceRule(metric="leak", at_least=True, margin=0.8),
    rules=(
        AcceptanceRule(metric="leak", margin=0.0, against="gold"),
        AcceptanceRule(metric="probability", margin=0.3),
        AcceptanceRule(metric="kept", at_least=True, margin=-0.2, against="original"),
    ),
    refused=frozenset({"forget"}),
    shown=("forget",),
    train=TrainSettings(rank=16, epochs=80, lr=1e-2, batch=14, warmup=0.05),
    longest_answer=6,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "tiny"
    other = folder.parent / "other.jsonl"
    write_jsonl(other, map(plain, facts("Yaltro", 12)))
    tiny.save(folder, network_knowing([str(other)]).model)
    return str(folder)


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setitem(recipes.APPLICATIONS, "stand-in", STAND_IN)


def test_a_killed_recipe_goes_on_and_ends_in_a_table(bench, base, stand_in, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(recipes, "forget", killed)
        with pytest.raises(KeyboardInterrupt):
            recipes.recipe("stand-in", base=base)
    folder = bench / "runs" / "recipe-stand-in"
    trained = {role: (folder / role / "training.json").stat().st_mtime_ns for role in MODELS}
    outcome = recipes.recipe("stand-in", base=base)
    assert trained == {
        role: (folder / role / "training.json").stat().st_mtime_ns for role in MODELS
    }
    assert outcome.honest
    assert outcome.table["original"]["leak"].value == 1.0
    assert not outcome.accepted("original")
    written = json.loads((folder / "results.json").read_text())
    assert written["accepted"] == {role: outcome.accepted(role) for role in outcome.table}
    answers = (folder / "answers.md").read_text()
    assert all(f"**Zorvex {place}?**" in answers for place in range(6))


MODELS = ("original", "gold")


def test_an_original_without_the_problem_is_said_before_more_is_trained(bench, base, monkeypatch):
    lazy = STAND_IN.train.model_copy(update={"epochs": 1, "lr": 1e-6})
    monkeypatch.setitem(recipes.APPLICATIONS, "stand-in", replace(STAND_IN, train=lazy))
    with pytest.raises(InputError, match="nothing-to-remove"):
        recipes.recipe("stand-in", base=base)
    folder = bench / "runs" / "recipe-stand-in"
    assert not (folder / "gold").exists()
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("files", "held"),
    [
        ({"notes.txt": "mine"}, "files of something else"),
        ({"recipe.json": '{"schema": "expunge.recipe/1", "recipe": "other"}'}, "another recipe"),
    ],
)
def test_a_folder_that_holds_something_else_stays_as_it_is(bench, stand_in, files, held):
    folder = bench / "mine"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(UsageError, match=held):
        recipes.recipe("stand-in", out=folder, base="no-model")
    assert {path.name: path.read_text() for path in folder.iterdir()} == files


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_no_generator_takes_is_refused(bench, seed):
    with pytest.raises(UsageError, match="bad-seed"):
        recipes.recipe("person", seed=seed)
    assert list(bench.iterdir()) == []


@pytest.mark.parametrize("name", list(recipes.APPLICATIONS))
def test_the_request_of_a_recipe_resolves(name, tmp_path):
    application = recipes.APPLICATIONS[name]
    data, models = application.draw(0), recipes.references("base", tmp_path)
    recipes.write_data(tmp_path / "data", data)
    (tmp_path / "request.toml").write_text(request_text(application, data, models))
    found = recipes.request_settings(tmp_path, offline=True)
    assert (found.request.goal, found.method.name) == (application.goal, application.method)
    assert found.request.gold == (f"base+{tmp_path / 'gold' / 'model'}",)
    sets = (found.request.forget, found.request.retain)
    assert [len(read(each).records) for each in sets] == [len(data.forget), len(data.retain)]
    assert found.audit.max_new_tokens == application.longest_answer
    assert found.request.shared == application.shared
    assert (found.request.response, found.request.refusals) == (
        application.response,
        application.refusals,
    )
