"""The whole job on a tiny world: from settings to a run folder that verifies."""

import importlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import expunge
import tiny
from expunge.benchmarking.evaluate import copy_evidence, store_evidence
from expunge.benchmarking.pruning import Pruner
from expunge.config.resolve import resolve
from expunge.errors import Interrupted
from expunge.evals.auditor import Auditor
from expunge.evals.results import Ruling
from expunge.evidence.collect import Collector
from expunge.evidence.store import PLAIN
from expunge.methods import METHODS
from expunge.metrics.outcomes import Axis, Status
from expunge.models.loading import Source, load
from expunge.preparation.prepare import prepare
from expunge.provenance.consistency import weight_problems
from expunge.provenance.verify import verify
from expunge.utils.console import Console
from tiny_world import SETS, network_knowing

PUBLIC = {
    "model.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "README.md",
    "report.html",
    "manifest.json",
}
FILES = {
    "model",
    "config.toml",
    "manifest.json",
    "results.json",
    "facts.json",
    "report.html",
    "log.txt",
    "run.json",
    "evidence",
}
TOLD = ("log.txt", "manifest.json", "report.html", "results.json", "facts.json")
STRENGTH = "extraction-strength"


def score(results, role, split, metric):
    found = {(s.role, s.split, s.attack, s.metric): s.value for s in results.scores}
    return found[role, split, "plain", metric]


def settings_of_finished(world, folder):
    """The settings of the finished run; its retain term is strong: two blocks hold everything."""
    return world.settings(train={"steps": 45, "lr": 1e-3}, method={"alpha": 5.0}, out=str(folder))


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """One finished run, made in a folder of its own."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPUNGE_CACHE", str(place / "cache"))
        patch.setenv("EXPUNGE_KEY_FILE", str(place / "operator.key"))
        patch.chdir(place)
        outcome = expunge.forget(settings_of_finished(world, place / "run"))
    return outcome


def test_a_run_leaves_a_loadable_model_with_its_evidence(finished):
    names = {path.name for path in finished.folder.iterdir()}
    assert names >= FILES
    assert not names & {"checkpoints", ".lock", ".staging"}
    assert (finished.folder / "evidence").stat().st_mode & 0o777 == 0o700
    assert {path.name for path in (finished.folder / "model").iterdir()} == PUBLIC
    AutoModelForCausalLM.from_pretrained(finished.folder / "model")
    assert expunge.verify(finished.folder).problems == ()


def test_what_was_to_be_forgotten_fell_and_the_rest_stayed(finished):
    results = finished.results
    assert score(results, "original", "forget", STRENGTH) > 0.9
    assert score(results, "original", "retain", STRENGTH) > 0.9
    # Two narrow blocks hold everything in the same weights: some collateral damage is inevitable.
    assert score(results, "unlearned", "forget", STRENGTH) < 0.4
    assert score(results, "unlearned", "retain", STRENGTH) > 0.55


def test_no_text_of_any_record_leaves_the_evidence(world, finished):
    files = [p for p in (finished.folder / "evidence").rglob("*") if p.is_file()]
    evidence = "".join(p.read_text("utf-8") for p in files)
    for name in TOLD:
        told = (finished.folder / name).read_text(encoding="utf-8")
        assert sorted(text for text in world.texts() if text in told) == [], name
    answers = {row["completion"] for split in SETS for row in world.rows(split)}
    assert sorted(answer for answer in answers if answer not in evidence) == []


def test_the_same_call_again_computes_nothing_and_says_the_same(world, finished, bench):
    before = {p: p.stat().st_mtime_ns for p in finished.folder.rglob("*")}
    again = expunge.forget(settings_of_finished(world, finished.folder))
    assert again == finished
    assert {p: p.stat().st_mtime_ns for p in finished.folder.rglob("*")} == before


def test_the_saved_settings_name_the_same_run(finished, bench):
    config = finished.folder / "config.toml"
    settings = resolve({}, config=config, environ={}, start=bench).settings
    assert expunge.forget(settings) == finished
    assert list(bench.iterdir()) == []


def test_a_run_says_that_its_audit_has_chosen_its_settings(world, bench):
    settings = world.settings(train={"steps": 2}, chosen_among=7)
    outcome = expunge.forget(settings)
    assert expunge.verify(outcome.folder).problems == ()
    for name in ("report.html", "model/report.html", "model/README.md", "results.json"):
        told = (outcome.folder / name).read_text(encoding="utf-8")
        assert "hese settings were chosen among 7 runs by this same audit, so the best" in told
    again = resolve({}, config=outcome.folder / "config.toml", environ={}, start=bench).settings
    assert again == settings
    assert expunge.forget(again).folder == outcome.folder


def test_data_is_told_apart_by_what_it_says_not_by_where_it_lies(world, bench):
    rows = world.rows("forget")
    told = {
        "moved": rows,
        "reworded": [{**rows[0], "paraphrases": ["Who was it?"]}, *rows[1:]],
        "renamed": [{**rows[0], "subject": "Wuxa"}, *rows[1:]],
    }
    digests = {"here": prepare(world.settings()).data_digest}
    for name, content in told.items():
        path = bench / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
        settings = world.settings(request={"forget": (str(path),)})
        digests[name] = prepare(settings).data_digest
    assert digests["moved"] == digests["here"]
    assert len(set(digests.values())) == 3


@pytest.fixture(scope="module")
def lent(tmp_path_factory):
    """What the original says to one request, asked by the first run alone."""
    return tmp_path_factory.mktemp("lent")


@pytest.fixture(scope="module")
def few(world, tmp_path_factory):
    """Files of a few records of each set: the audit is the same for every method."""
    place = tmp_path_factory.mktemp("few")
    for name in SETS:
        lines = Path(world.data(name)).read_text("utf-8").splitlines(keepends=True)
        (place / name).with_suffix(".jsonl").write_text("".join(lines[:4]), encoding="utf-8")
    return {name: (str(place / f"{name}.jsonl"),) for name in SETS}


@pytest.mark.parametrize(("name", "full"), [*((name, False) for name in METHODS), ("npo", True)])
def test_every_method_runs_from_end_to_end(world, bench, lent, few, name, full):
    method = {"name": name, **({"layer": 1} if name == "rmu" else {})}
    out = bench / "runs" / name
    lending = Pruner((), begun=lambda: copy_evidence(lent, out / "evidence"))
    outcome = expunge.forget(
        world.settings(
            method=method,
            train={"steps": 2, "full": full, "lr": 1e-4},
            request={**few, "neighbours": ()},
            out=str(out),
        ),
        console=Console(lending),
    )
    store_evidence(out / "evidence", lent)
    facts = json.loads((outcome.folder / "facts.json").read_text())
    assert facts["train"]["steps"] == 2
    assert facts["method"]["name"] == name
    assert expunge.verify(outcome.folder).ok
    assert (bench / "runs" / "latest").resolve() == outcome.folder.resolve()


FULL = {"full": True, "steps": 140}
"""An adapter of the tiny model is too small to learn and to keep."""


@pytest.mark.parametrize(
    ("method", "train", "request_", "wanted"),
    [
        ("idk", {"steps": 80}, {"goal": "suppression", "response": "refusal"}, "no idea"),
        ("auto", FULL, {"goal": "suppression", "response": "refusal"}, "no idea"),
        ("auto", FULL, {"goal": "edit"}, "not sure"),
    ],
)
def test_the_model_learns_what_to_say_instead(world, bench, method, train, request_, wanted):
    rows = [{**row, "alternative": "not sure"} for row in world.rows("forget")]
    data = bench / "edit.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    outcome = expunge.forget(
        world.settings(
            method={"name": method},
            train={"lr": 5e-3, **train},
            request={
                **request_,
                "forget": (str(data),),
                "refusals": ("no idea",),
                "utility_budget": 0.99,
            },
        )
    )
    answers = outcome.folder / "evidence" / "unlearned.forget.plain.answers.jsonl"
    said = [json.loads(line)["text"] for line in answers.read_text("utf-8").splitlines()]
    assert said.count(wanted) >= 10


def test_an_adapter_is_suppression_until_it_is_merged(world, bench):
    train = {"adapter": True, "lr": 3e-3, "steps": 10}
    outcome = expunge.forget(world.settings(train=train))
    verdict = outcome.results.verdict
    assert verdict.ruling == Ruling.FAIL_RESIDUAL
    assert "suppression" in " ".join((verdict.sentence, *verdict.reasons))
    assert not list(outcome.folder.rglob("model.safetensors"))
    assert expunge.verify(outcome.folder).problems == ()
    assert expunge.verify(outcome.folder).notes == ()
    about = json.loads((outcome.folder / "manifest.json").read_text())
    copy = Path(shutil.copytree(outcome.folder / "model", bench / "copy"))
    assert weight_problems(copy, about["models"], about["precision"]) == ([], [])
    tensors = load_file(copy / "adapter_model.safetensors")
    tensors[next(iter(tensors))] += 0.1
    save_file(tensors, copy / "adapter_model.safetensors")
    (problem,) = weight_problems(copy, about["models"], about["precision"])[0]
    assert "other weights than those that were audited" in problem.what

    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(world.original)
    worn = PeftModel.from_pretrained(base, str(outcome.folder / "model")).eval()
    merged = expunge.merge(outcome.folder, out=bench / "merged")
    whole = AutoModelForCausalLM.from_pretrained(merged)
    tokens = AutoTokenizer.from_pretrained(merged)
    ids = tokens(world.rows("forget")[0]["prompt"], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert torch.allclose(worn(ids).logits, whole(ids).logits, atol=1e-4)
        original = AutoModelForCausalLM.from_pretrained(world.original)(ids).logits
    assert not torch.allclose(whole(ids).logits, original, atol=0.1)
    source = Source(device=torch.device("cpu"), dtype=torch.float32, offline=True)
    manifest = json.loads((outcome.folder / "manifest.json").read_text())
    assert load(str(merged), source).digest == manifest["models"]["unlearned"]

    other, of_a_gold = (
        expunge.audit(world.settings(), model=str(outcome.folder), gold=gold)
        for gold in (False, True)
    )
    rule = "an adapter leaves the weights unchanged"
    told = [" ".join(each.results.verdict.reasons) for each in (other, of_a_gold)]
    assert [rule in text for text in told] == [True, False], "a gold has nothing to cover"
    assert other.folder != of_a_gold.folder
    assert expunge.verify(of_a_gold.folder).ok


def test_an_audit_of_the_original_is_no_run_and_finds_everything_still_there(
    world, finished, bench
):
    settings = world.settings()
    outcome = expunge.audit(settings, model=world.original)
    assert outcome.results.verdict.ruling == Ruling.FAIL_RESIDUAL
    assert expunge.verify(outcome.folder).ok
    # Another original is another question, and neither audit is the run of the same request.
    other = expunge.audit(world.settings(model=world.gold), model=world.original)
    folders = (finished.folder, outcome.folder, other.folder)
    runs = {json.loads((folder / "manifest.json").read_text())["run"] for folder in folders}
    assert len(runs) == 3


def test_a_judged_model_that_is_the_original_is_not_asked_again(world, bench, monkeypatch):
    real, asked = Collector.scores, []

    def counted(self, network, unit, **few):
        asked.extend([] if self.store.has(unit) else [unit])
        return real(self, network, unit, **few)

    monkeypatch.setattr(Collector, "scores", counted)
    repeated = expunge.audit(world.settings(out="repeated"), model=world.original).results
    once = {unit.split for unit in asked if unit.role == "unlearned" and unit.test == PLAIN}
    assert once == set()
    monkeypatch.setattr(Auditor, "_repeat", lambda *_: None)
    anew = expunge.audit(world.settings(out="anew"), model=world.original).results
    assert any(unit.role == "unlearned" and unit.test == PLAIN for unit in asked)
    assert (repeated.scores, repeated.gates) == (anew.scores, anew.gates)


def test_an_audit_of_a_model_that_never_saw_the_data_finds_nothing(world, bench):
    settings = world.settings(request={"gold": (world.gold,)})
    outcome = expunge.audit(settings, model=world.gold)
    erasure = {Axis.FORGETTING, Axis.ROBUSTNESS, Axis.PRIVACY}
    failed = [g for g in outcome.results.gates if g.axis in erasure and g.status is Status.FAIL]
    assert failed == []
    assert outcome.results.verdict.ruling != Ruling.FAIL_RESIDUAL
    assert "gold-0" in {s.role for s in outcome.results.scores}


def test_plain_text_is_forgotten_by_a_model_without_padding_and_template(world, bench):
    for name, split in (("secret", "forget"), ("unseen", "control")):
        texts = [{"text": f"{row['prompt']} {row['completion']}"} for row in world.rows(split)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    data = ["secret.jsonl", world.data("retain")]
    folder = tiny.save(bench / "plain", network_knowing(data, template=None).model, template=None)
    described = folder / "tokenizer_config.json"
    fields = json.loads(described.read_text(encoding="utf-8"))
    del fields["pad_token"]
    described.write_text(json.dumps(fields), encoding="utf-8")
    assert AutoTokenizer.from_pretrained(folder).pad_token is None
    request = {"forget": ("secret.jsonl",), "control": ("unseen.jsonl",), "neighbours": ()}
    outcome = expunge.forget(world.settings(model=str(folder), train={"steps": 2}, request=request))
    gates = {g.name: g for g in outcome.results.gates if g.axis is Axis.FORGETTING}
    assert gates["key-fact leak"].status is Status.NOT_COMPUTABLE
    assert gates["residual memory"].status is Status.FAIL
    assert expunge.verify(outcome.folder).ok


def test_what_is_not_known_by_heart_may_be_forgotten_all_the_same(world, bench):
    """Other questions may ask for it; the verdict says that this audit cannot."""
    rows = [{"prompt": f"What is a {n}?", "completion": f"It is {n} again."} for n in range(8)]
    (bench / "unknown.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = {"forget": (str(bench / "unknown.jsonl"),), "assume_known": True}
    found = expunge.forget(
        world.settings(request=request, train={"steps": 2}, out=str(bench / "out"))
    )
    assert found.results.verdict.ruling is Ruling.NOTHING_TO_FORGET
    assert verify(found.folder).ok


def test_the_memory_that_the_model_takes_is_asked_for_once(world, bench, monkeypatch):
    job = importlib.import_module("expunge.pipeline.forget")
    loaded: list[str] = []

    def beyond(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "load", lambda *which: loaded.append(which[0]) or load(*which))
    monkeypatch.setattr(job, "available_gib", lambda device: 0.0 if loaded else 9.0)
    monkeypatch.setattr(job.Auditor, "open", beyond)
    with pytest.raises(Interrupted):
        expunge.forget(world.settings(out=str(bench / "run")))
    assert loaded == [world.original]
