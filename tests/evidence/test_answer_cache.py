"""What original and golds said once is not asked again, and is found by content alone."""

import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import expunge
from expunge.cli.main import main
from expunge.evidence.answer_cache import AnswerCache, answers_folder, cached, trim
from expunge.evidence.collect import Collector
from expunge.evidence.store import SPANS, EvidenceStore
from expunge.preparation.prepare import prepare
from expunge.provenance.destroy import forget_fingerprints
from expunge.reporting.schema import read_results

KNOWN = ("original", "gold-0")


@pytest.fixture
def asked(monkeypatch):
    """Roles whose scores or answers were computed, in order."""
    real, roles = (Collector.scores, Collector._answer), []

    def scores(self, network, unit, **few):
        roles.extend([] if self.store.has(unit) else [unit.role])
        return real[0](self, network, unit, **few)

    def answers(self, network, waiting):
        roles.extend(each.unit.role for each in waiting)
        return real[1](self, network, waiting)

    monkeypatch.setattr(Collector, "scores", scores)
    monkeypatch.setattr(Collector, "_answer", answers)
    return roles


def with_gold(world, **settings):
    return world.settings(request={"gold": (world.gold,)}, **settings)


@pytest.fixture(scope="module")
def first(world, tmp_path_factory):
    """A finished audit of a model that is neither the original nor a gold, with its cache."""
    place = tmp_path_factory.mktemp("first")
    weights = load_file(Path(world.gold) / "model.safetensors")
    moved = {name: weight * 1.01 for name, weight in weights.items()}
    other = Path(shutil.copytree(world.gold, place / "other"))
    save_file(moved, other / "model.safetensors", {"format": "pt"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPUNGE_CACHE", str(place / "cache"))
        patch.setenv("EXPUNGE_KEY_FILE", str(place / "operator.key"))
        expunge.audit(with_gold(world, out=str(place / "run")), model=str(other))
    return place


@pytest.fixture
def later(first, bench, monkeypatch):
    """A place with copies of the run and of what it left, for a later run to find."""
    place = Path(shutil.copytree(first, bench / "later"))
    monkeypatch.setenv("EXPUNGE_CACHE", str(place / "cache"))
    monkeypatch.setenv("EXPUNGE_KEY_FILE", str(place / "operator.key"))
    return place


def recalled(world, later, said):
    """Files that a new run, whose evidence is empty, takes over of the original and its gold."""
    folder = later / "new" / "evidence"
    folder.mkdir(parents=True)
    for name in ("context.json", SPANS):
        shutil.copy(later / "run" / "evidence" / name, folder)
    key = (later / "operator.key").read_bytes()
    cache = AnswerCache.of(prepare(with_gold(world)), key=key, forget=(), warn=said.append)
    store = EvidenceStore(folder)
    attacks = cache.attacks(store)
    known = 0 if attacks is None else len(list(attacks.folder.glob("attacks/*")))
    count = sum(cache.recall(store, role) for role in KNOWN)
    cache.keep(EvidenceStore(later / "run" / "evidence"))
    return count, known


def evidence_of(folder: Path) -> dict[str, bytes]:
    paths = [path for role in KNOWN for path in (folder / "evidence").rglob(f"*{role}.*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_a_second_audit_asks_only_the_judged_model_and_says_the_same(world, later, asked):
    settings = with_gold(world, out=str(later / "second"))
    second = expunge.audit(settings, model=str(later / "other"))
    assert set(asked) - {"ladder-0.25", "ladder-0.5", "ladder-0.75"} == {"unlearned"}
    assert second.results == read_results(later / "run")
    assert evidence_of(later / "second") == evidence_of(later / "run")


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"audit": {"max_new_tokens": 9}}, id="length of answers"),
        pytest.param({"precision": "bf16"}, id="number format"),
        pytest.param({"train": {"seed": 1}}, id="seed"),
        pytest.param({"template": "plain"}, id="template"),
        pytest.param({"request": {"neighbours": ()}}, id="records"),
    ],
)
def test_whatever_an_answer_depends_on_is_part_of_its_place(world, bench, changed):
    def places(settings):
        cache = AnswerCache.of(prepare(settings), key=bytes(32), forget=(), warn=print)
        return cache.common, cache.request

    assert places(world.settings()) == places(world.settings())
    assert places(world.settings(**changed)) != places(world.settings())


@pytest.mark.parametrize("other", ["weights", "code"])
def test_other_weights_or_other_code_find_nothing(world, later, other, monkeypatch):
    if other == "code":
        monkeypatch.setattr("expunge.evidence.answer_cache.code_digest", lambda: "changed")
    else:
        path = later / "run" / "evidence" / "context.json"
        context = json.loads(path.read_text())
        context["models"] = dict.fromkeys(context["models"], "0" * 64)
        path.write_text(json.dumps(context))
    assert recalled(world, later, [])[0] == 0


@pytest.mark.parametrize("broken", ["nothing", "cut", "foreign", "no folder"])
def test_what_cannot_be_read_is_said_in_a_line_and_computed_again(world, later, broken):
    folder, said = answers_folder(), []
    if broken == "no folder":
        shutil.rmtree(folder)
        folder.write_text("a file in the way")
    for path in folder.rglob("*.sealed") if broken in ("cut", "foreign") else ():
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if broken == "cut" else bytes(len(data)))
    count, attacks = recalled(world, later, said)
    assert (count > 0, attacks > 0) == ((True, True) if broken == "nothing" else (False, False))
    assert bool(said) == (broken != "nothing")


def test_the_cache_shows_no_record_and_goes_with_the_evidence(world, later):
    texts = [row[name] for row in world.rows("forget") for name in ("prompt", "completion")]
    paths = [path for path in answers_folder().rglob("*") if path.is_file()]
    assert paths
    assert not any(text.encode() in path.read_bytes() for path in paths for text in texts)
    marks = forget_fingerprints(later / "run")
    assert any(set(each) == marks for each in named_in_places())
    assert main(["evidence", "destroy", str(later / "run"), "--yes"]) == 0
    left = named_in_places()
    assert left, "general text is about nobody, and stays"
    assert not any(marks & set(each) for each in left)


def named_in_places() -> list[list[str]]:
    abouts = [json.loads(path.read_text()) for path in answers_folder().glob("*/about.json")]
    return [about["forget"] for about in abouts]


def test_the_places_used_longest_ago_go_first_and_clear_takes_all(later):
    places = sorted(path.parent for path in answers_folder().glob("*/about.json"))
    for age, place in enumerate(places):
        os.utime(place, (10_000 - age, 10_000 - age))
    newest = sum(path.stat().st_size for path in places[0].rglob("*") if path.is_file())
    trim(answers_folder(), newest)
    assert [place for place in places if place.exists()] == places[:1]
    assert main(["cache", "clear"]) == 0
    assert cached(answers_folder()).places == 0
