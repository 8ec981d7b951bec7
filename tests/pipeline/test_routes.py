"""Routes: which one a plan takes and what it says; golds beside a training; retraining in a run."""

import json
from collections import Counter
from pathlib import Path

import pytest

import tiny
import tiny_world
from expunge.config.settings import FinetuneSettings, Settings
from expunge.data.readers import read
from expunge.errors import ExpungeError
from expunge.metrics.outcomes import Axis
from expunge.pipeline.exact import forget_exactly
from expunge.pipeline.finetune import train
from expunge.pipeline.forget import audit, forget, plan
from expunge.pipeline.gold import gold, golds_beside, halves_beside
from expunge.pipeline.recipe import base_network, base_of_original
from expunge.pipeline.routes import choose_route
from expunge.planning.routes import Route, choose, table
from expunge.preparation.prepare import ERASE, prepare
from expunge.reporting.schema import read_facts


def route(name, flops=1.0, needs="", claim="E4"):
    return Route(name=name, claim=claim, flops=flops, needs=needs)


@pytest.mark.parametrize(
    ("retrain", "rewind", "taken"),
    [
        (route("retrain"), route("rewind"), "retrain"),
        (route("retrain", 400.0), route("rewind"), "retrain"),
        (route("retrain", 401.0), route("rewind"), "rewind"),
        (route("retrain", needs="data"), route("rewind"), "rewind"),
        (route("retrain", needs="data"), route("rewind", needs="base"), "erase"),
        (route("retrain", 1e9), route("rewind", 1e9), "erase"),
        (route("retrain", None), route("rewind"), "retrain"),
    ],
)
def test_the_first_open_route_that_is_worth_its_work_is_taken(retrain, rewind, taken):
    routes = (retrain, rewind, route("erase", 100.0, claim="E1"))
    assert choose(routes).name == taken
    shown = [text for _, text in table(routes)]
    assert shown[-1].startswith(f"{taken}: ")
    assert [text.split()[0] for text in shown[:-1]] == ["retrain", "rewind", "erase"]
    assert ("needs data" in shown[0]) is bool(retrain.needs)


def test_a_route_by_name_is_shown_and_not_taken():
    named = Route(name="rewind", claim="E1", flops=1.0, by_name=True)
    routes = (route("retrain", needs="data"), named, route("erase", 100.0, claim="E1"))
    assert choose(routes).name == "erase"
    assert table(routes)[1][1].endswith("by name only: --method rewind")
    assert table(routes)[-1][1] == "erase: nothing else is open"


def test_a_method_by_name_has_no_table():
    assert table(()) == []


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A base model, the sets of the tiny world, and a training on three of them."""
    folder = tmp_path_factory.mktemp("routes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPUNGE_KEY_FILE", str(folder / "operator.key"))
        names = tiny_world.random.Random(7)
        for split, count in tiny_world.SIZES.items():
            rows = [tiny_world.fact(split, index, names) for index in range(count)]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{split}.jsonl").write_text(text)
        tiny.save(folder / "base", tiny.llama())
        train(recipe(folder), out=folder / "run")
    return folder


@pytest.fixture(autouse=True)
def key(place, monkeypatch):
    monkeypatch.setenv("EXPUNGE_KEY_FILE", str(place / "operator.key"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def recipe(folder: Path, **more) -> FinetuneSettings:
    data = tuple(str(folder / f"{split}.jsonl") for split in ("forget", "retain", "neighbours"))
    how = {"full": True, "epochs": 80, "lr": 4e-3, "batch": 10, **more}
    return FinetuneSettings(model=str(folder / "base"), data=data, device="cpu", train=how)


def settings(place: Path, model: str, **more) -> Settings:
    request = {"goal": "removal", "forget": [str(place / "forget.jsonl")]}
    request |= {s: [str(place / f"{s}.jsonl")] for s in ("retain", "neighbours", "control")}
    given = {"model": model, "device": "cpu", "offline": True, "request": request}
    audit = {"max_new_tokens": 10, "attack_records": 2}
    return Settings.model_validate({**given, "audit": audit, **more})


def test_golds_are_trained_once_and_found_for_their_forget_set_alone(place, monkeypatch):
    forget_file = str(place / "forget.jsonl")
    golds = gold(place / "run", [forget_file], seeds=2)
    assert [run.settings.train.seed for run in golds] == [1, 2]
    weights = [(run.model / "model.safetensors").read_bytes() for run in golds]
    assert len(set(weights)) == 2
    stamps = [(run.folder / "training.json").stat().st_mtime_ns for run in golds]
    again = gold(place / "run", [forget_file], seeds=2)
    assert [(run.folder / "training.json").stat().st_mtime_ns for run in again] == stamps
    unseen, seen = read([forget_file]).records, read([str(place / "retain.jsonl")]).records
    found = golds_beside(str(place / "run"), unseen)
    assert found == golds_beside(str(place / "run" / "model"), unseen[:3])
    assert [Path(each) for each in found] == [run.folder for run in golds]
    assert golds_beside(str(place / "run"), (*unseen, seen[0])) == ()
    assert golds_beside(str(place / "base"), unseen) == ()
    assert choose_route(settings(place, str(place / "run"))).settings.request.gold == found
    monkeypatch.setenv("EXPUNGE_KEY_FILE", str(place / "another.key"))
    assert golds_beside(str(place / "run"), unseen) == ()


def test_golds_of_an_adapter_lie_over_the_base_that_is_named(place):
    train(recipe(place, full=False, epochs=1), out=place / "adapted")
    forget_file = str(place / "forget.jsonl")
    golds = gold(place / "adapted", [forget_file], seeds=2)
    unseen = read([forget_file]).records
    original = f"{place / 'base'}+{place / 'adapted' / 'model'}"
    over = golds_beside(original, unseen)
    assert over == tuple(f"{place / 'base'}+{run.model}" for run in golds)
    assert choose_route(settings(place, original)).settings.request.gold == over


def test_half_trained_models_say_which_share_behaves_as_trained(place, tmp_path):
    forget_file, unseen = str(place / "forget.jsonl"), str(place / "control.jsonl")
    gold(place / "run", [forget_file], seeds=1)
    gold(place / "run", [forget_file], halves=4, unseen=[unseen])
    asked = settings(place, str(place / "run"))
    request = asked.request.model_copy(update={"holdout": (unseen,), "control": "none"})
    asked = asked.model_copy(update={"request": request})
    halves = halves_beside(asked.model, prepare(asked).scope)
    saw = Counter(name for half in halves for name in half.saw)
    assert (len(saw), set(saw.values())) == (24, {2})
    golds = golds_beside(asked.model, read([forget_file]).records)
    shares = []
    for name, model in (("trained", asked.model), ("without", golds[0])):
        outcome = audit(asked.model_copy(update={"out": str(tmp_path / name)}), model=model)
        shares += [s.value for s in outcome.results.scores if s.metric == "duci"]
        told = next(f for f in outcome.verdict.findings if f.axis is Axis.PRIVACY)
        assert "of the records still behave as trained" in told.detail
    assert shares[0] > 0.8
    assert shares[1] < 0.2


@pytest.mark.parametrize(("halves", "unseen"), [(3, True), (2, True), (8, False), (0, True)])
def test_halves_that_are_none_are_refused_before_anything_trains(place, halves, unseen):
    others = [str(place / "control.jsonl")] if unseen else []
    with pytest.raises(ExpungeError, match="no-halves"):
        gold(place / "run", [str(place / "forget.jsonl")], halves=halves, unseen=others)


def test_a_run_that_can_be_trained_again_is_and_ends_in_the_bytes_of_the_replay(place, tmp_path):
    whole = settings(place, str(place / "run"), out=str(tmp_path / "forgotten"))
    planned = plan(whole)
    assert [each.name for each in planned.routes] == ["retrain", "rewind", "erase"]
    assert choose(planned.routes).claim == "E4"
    assert dict(planned.lines())["route"].startswith("retrain: ")
    outcome = forget(whole)
    exact = forget_exactly(place / "run", [str(place / "forget.jsonl")], out=tmp_path / "exact")
    made, replayed = (
        folder / "model.safetensors" for folder in (outcome.folder / "model", exact.model)
    )
    assert made.read_bytes() == replayed.read_bytes()
    assert read_facts(outcome.folder).exact == "E4"
    assert "Exact replay: the model equals, byte for byte" in (
        outcome.folder / "report.html"
    ).read_text(encoding="utf-8")
    again = choose_route(settings(place, str(outcome.folder / "training")))
    assert "all 12 records to erase were taken out" in again.routes[0].needs


@pytest.mark.parametrize(
    ("model", "more", "names", "claim"),
    [
        ("base", {}, ["retrain", "rewind", "erase"], None),
        ("base", {"recipe": "lora.toml"}, ["retrain", "rewind", "erase"], "E3"),
        ("base", {"recipe": "full.toml"}, ["retrain", "rewind", "erase"], "E1"),
        ("run", {"method": {"name": "npo"}}, [], None),
        ("run", {"method": {"name": "simnpo", "beta": 2.5}}, [], None),
        ("run", {"robust": {"name": "sam"}}, [], None),
    ],
)
def test_what_is_open_depends_on_what_is_known(place, model, more, names, claim):
    (place / "full.toml").write_text(recipe(place, epochs=1).to_toml())
    (place / "lora.toml").write_text(recipe(place, epochs=1, full=False).to_toml())
    if "recipe" in more:
        more = {"recipe": str(place / more["recipe"])}
    chosen = choose_route(settings(place, str(place / model), **more))
    assert [each.name for each in chosen.routes] == names
    if names:
        assert chosen.routes[0].open is (claim is not None)
        assert claim in (None, chosen.routes[0].claim)
    if claim is None:
        assert chosen.settings.method.name in ("npo", "simnpo", ERASE)
        assert chosen.removal is None
    else:
        assert chosen.settings.method.name == "retrain"
        assert chosen.removal.job.settings.train.seed not in range(100)


def edit(place: Path, **more) -> Settings:
    """The training of `place`, to be taught other answers."""
    rows = [json.loads(line) for line in (place / "forget.jsonl").read_text().splitlines()]
    named = place / "wanted.jsonl"
    named.write_text("".join(json.dumps({**row, "alternative": "u"}) + "\n" for row in rows))
    request = {"goal": "edit", "forget": [str(named)], "retain": [str(place / "retain.jsonl")]}
    return settings(place, str(place / "run"), request=request, **more)


def test_an_edit_teaches_its_answers_also_where_one_could_train_again(place):
    chosen = choose_route(edit(place))
    assert chosen.settings.method.name == ERASE
    assert chosen.settings.request.response == "alternative"
    assert chosen.parts[0].method.teach > 0
    assert "teaches the alternative that is wanted" in plan(edit(place)).method


def test_a_method_that_teaches_no_answer_makes_no_edit(place):
    for method in ("npo", "retrain"):
        with pytest.raises(ExpungeError, match="response-not-taught"):
            choose_route(edit(place, method={"name": method}))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('model = "BASE"\n[train]\nepochs = 1\nlr = 1e-3\n', "incomplete-recipe"),
        ('model = "BASE"\ndata = ["FORGET"]\n', "incomplete-recipe"),
        (
            'model = "BASE"\ndata = ["FORGET"]\nmore = 1\n[train]\nepochs=1\nlr=1.0',
            "incomplete-recipe",
        ),
        ('model = "OTHER"\ndata = ["FORGET"]\n[train]\nepochs=1\nlr=1e-3\n', "base-differs"),
        ('model = "BASE"\ndata = ["RETAIN"]\n[train]\nepochs=1\nlr=1e-3\n', "never-trained"),
        ('model = "BASE"\ndata = ["FORGET"]\n[train]\nepochs=1\nlr=1e-3\n', "nothing-left"),
        (None, "route-not-open"),
    ],
)
def test_a_recipe_that_cannot_be_repeated_is_refused(place, text, code):
    more: dict[str, object] = {"method": {"name": "retrain"}}
    if text is not None:
        if not (place / "other").exists():
            tiny.save(place / "other", tiny.llama(layers=3))
        names = {
            "BASE": "base",
            "OTHER": "other",
            "FORGET": "forget.jsonl",
            "RETAIN": "retain.jsonl",
        }
        for word, name in names.items():
            text = text.replace(word, str(place / name))
        (place / "recipe.toml").write_text(text)
        more["recipe"] = str(place / "recipe.toml")
    with pytest.raises(ExpungeError) as caught:
        choose_route(settings(place, str(place / "base"), **more))
    assert caught.value.code == code
    assert all((caught.value.what, caught.value.why, caught.value.fix))


def test_a_base_that_is_named_counts_where_none_is_recorded(place):
    merged, adapter = str(place / "base"), place / "an-adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    assert base_of_original(settings(place, merged)) is None
    assert base_of_original(settings(place, merged, base=merged)) == merged
    assert base_of_original(settings(place, f"{merged}+{adapter}", base=merged)) == merged
    with pytest.raises(ExpungeError, match="two-bases"):
        base_of_original(settings(place, f"{merged}+{adapter}", base="org/other"))


def test_a_named_base_with_other_tokens_is_refused(place):
    prepared = prepare(settings(place, str(place / "base"), base=str(place / "base")))
    with pytest.raises(ExpungeError, match="base-differs"):
        base_network(prepared, vocabulary=7)
