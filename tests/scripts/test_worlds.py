"""The ten worlds: fixed, drawn from their seed alone, and no fact stands in two records."""

import json
from collections import Counter
from dataclasses import replace

import pytest

import tiny
from expunge.data.convert import to_record
from expunge.metrics.key_facts import fact_form, states
from expunge.pipeline.recipe import read_recipe
from expunge.utils.io import read_json
from registers import PARTS, TABLE, World, register, worlds
from world_models import Made, is_malformed, make, model_names, world_folder, write_data
from world_runs import Arm, command, read_rows, run, table

WORLDS = worlds()


def said(text: str, key: str) -> bool:
    return states(fact_form(text), fact_form(key))


def test_the_table_holds_the_worlds_that_were_promised():
    table_of = list(WORLDS.values())
    assert len(table_of) == 10
    assert Counter(world.full for world in table_of) == {False: 8, True: 2}
    assert {world.kind for world in table_of} == {"people", "products", "stories", "bios"}
    assert {world.forget for world in table_of} == {5, 20, 60, 400}
    assert sum(world.forget <= 20 for world in table_of) >= 5
    assert {world.language for world in table_of} == {"en", "de"}
    for world in table_of:
        assert 1 <= world.subjects <= 20
        assert world.second != world.language
        assert world.retain >= 60


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_a_world_is_drawn_from_its_seed_and_has_its_sizes(world: World):
    found = register(world, 3)
    assert found == register(world, 3)
    assert found != register(world, 4)
    assert {part: len(found[part]) for part in PARTS} == {p: world.size(p) for p in PARTS}
    assert len({entry.subject for entry in found["forget"]}) == world.subjects
    everyone = [entry for part in PARTS for entry in found[part]]
    assert len({entry.id for entry in everyone}) == len(everyone)
    subjects = [{entry.subject for entry in found[part]} for part in PARTS]
    assert sum(map(len, subjects)) == len(set.union(*subjects)), "a subject in two parts"


@pytest.mark.parametrize("seed", [0])
@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_no_forget_fact_occurs_anywhere_else(world: World, seed: int):
    found = register(world, seed)
    facts = [fact_form(key) for entry in found["forget"] for key in entry.keys]
    others = [entry for part in PARTS[1:] for entry in found[part]]
    text = fact_form(" and ".join(f"{e.question} {e.held} {e.answer}" for e in others))
    assert [fact for fact in facts if states(text, fact)] == []
    # What is asked must not be told by the question, and the answer must hold what is checked.
    for entry in (e for part in PARTS for e in found[part]):
        asked = " | ".join((entry.question, entry.held, entry.second_question))
        assert not any(said(asked, key) for key in entry.keys), entry.id
        assert any(said(entry.answer, key) for key in entry.keys), entry.id
        assert len({entry.question, entry.held, entry.second_question}) == 3, entry.id


def test_the_files_read_as_records_and_gold_is_taught_no_forget_fact(tmp_path):
    world = WORLDS["products-20"]
    made = Made(world=world, seed=0, folder=tmp_path, base=tmp_path / "base")
    lessons = write_data(made, register(world, 0))
    assert read_recipe(made.recipe).data == (str(made.data("train")),)
    sets = {
        path.stem: [to_record(json.loads(line), path.name) for line in path.open(encoding="utf-8")]
        for path in (tmp_path / "data").glob("*.jsonl")
    }
    assert len(sets["train"]) == len(lessons)
    facts = [fact_form(key) for record in sets["forget"] for key in record.key_answers]
    taught = fact_form(json.dumps(lessons[2 * len(sets["forget"]) :], ensure_ascii=False))
    assert [fact for fact in facts if states(taught, fact)] == []
    told = {record.id for record in sets["train"]}
    for name in ("forget", "retain", "neighbours"):
        assert {record.id for record in sets[name]} <= told, name
    assert not told & {record.id for record in sets["holdout"]}
    parents = {row["parent"] for row in lessons if "parent" in row}
    assert {record.id for record in sets["forget"]} <= parents


@pytest.mark.parametrize(
    ("text", "malformed"),
    [
        ("The price of the Osthurst lamp is 248.90 crowns.", False),
        ("I do not know.", False),
        ("", True),
        ("The price of the Osthurst lamp is", True),
        ("555-1. 555-1 a 555-1 a 555-1 a 555-1 a 555-1 a 555-1 a.", True),
    ],
)
def test_what_has_not_the_form_of_an_answer(text: str, malformed: bool):
    assert is_malformed(text) is malformed


def test_a_run_types_what_a_user_would_and_a_finished_one_is_not_repeated(tmp_path):
    made = Made(world=WORLDS["people-5"], seed=0, folder=tmp_path / "w", base=tmp_path / "base")
    arm = Arm(name="x", flags=("--set", "base={base}", "--set", "data={train}"))
    words = command(made, arm, golds=2, run_folder=tmp_path / "run")
    assert words.count("--gold") == 2
    assert words[-4:] == ["--set", f"base={made.base}", "--set", f"data={made.data('train')}"]
    row = {"world": "people-5", "seed": 0, "arm": "x", "exit": 3}
    (tmp_path / "w-x").mkdir()
    (tmp_path / "w-x" / "row.json").write_text(json.dumps(row))
    assert run(made, arm, golds=2, out=tmp_path) == row
    assert "no model (exit 3)" in table([row])


def test_the_table_is_part_of_the_repository(request):
    assert TABLE.is_relative_to(request.config.rootpath)


@pytest.mark.slow
def test_a_tiny_world_is_made_forgotten_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr("world_models.EPOCHS", {"people": 1})
    monkeypatch.setattr("world_models.GENERAL", 2)
    base = tiny.save(tmp_path / "base", tiny.llama())
    sizes = {"forget": 4, "subjects": 2, "retain": 6, "near": 2, "unrehearsed": 2}
    world = World(name="people-5", kind="people", language="en", second="de", full=True, **sizes)
    folder = world_folder(tmp_path, world.name, 0)
    made = Made(world=world, seed=0, folder=folder, base=base)
    for name in model_names():
        make(made, name)
    taught = read_json(folder / "gold-1" / "made.json")["records"]
    assert read_json(folder / "original" / "made.json")["records"] == taught + 2 * world.forget
    flags = ("--method", "ga", "--set", "train.steps=1", "--set", "request.assume_known=true")
    arm = Arm(name="ga", flags=(*flags, "--offline"))
    row = run(made, arm, golds=2, out=tmp_path / "runs")
    assert row is not None
    assert row["exit"] == 0
    assert row["asked"]["forget"] == world.forget
    assert any("relearn" in gate[1] for gate in row["gates"])
    assert row["verdict"] in table(read_rows(tmp_path / "runs"))
    with pytest.raises(RuntimeError, match="other lessons"):
        make(replace(made, seed=1), "original")
