"""Starting a benchmark: what is refused before anything runs."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import tiny
from bench_results import tree
from expunge.benchmarking import protocol, run
from expunge.benchmarking.protocol import read_protocol
from expunge.benchmarking.run import BenchArguments, begin
from expunge.benchmarking.suites.base import Probe, Suite
from expunge.benchmarking.sweep import SweepProgress
from expunge.cli import main
from expunge.config.settings import Settings
from expunge.data.records import Record
from expunge.errors import ExpungeError, UsageError
from expunge.utils.file_names import PROTOCOL


@pytest.fixture
def unread(monkeypatch):
    """Neither data nor models are there: nothing is told of what they hold."""
    monkeypatch.setattr(run, "contents_of", lambda *_, **__: {})


PLAIN = Settings.model_validate(tree())
CHAIN = Settings.model_validate(tree(stage=[{"method": {"name": "rmu"}}]))


def test_a_chain_is_no_method_of_a_matrix(tmp_path):
    with pytest.raises(UsageError, match="1 \\[\\[stage\\]\\] table") as caught:
        begin(BenchArguments(what="request.toml"), tmp_path / "m", CHAIN)
    assert caught.value.code == "chain-in-a-matrix"
    assert not (tmp_path / "m").exists()


FILE, TOFU, MUSE, RWKU = (BenchArguments(what=what) for what in ("r.toml", "tofu", "muse", "rwku"))


@pytest.mark.parametrize(
    ("ask", "given", "said"),
    [
        (FILE, {"data": "d"}, "r.toml does not read --data"),
        (FILE, {"part": "bio"}, "does not read --part"),
        (FILE, {"records": 3}, "does not read --records"),
        (FILE, {"corpus": ("c",), "keep": ("k",)}, "does not read --corpus and --keep"),
        (FILE, {"keep": ("k",), "records": 3, "beside": ("utility=u",)}, "does not read --keep"),
        (TOFU, {"keep": ("k",)}, "bench tofu does not read --keep"),
        (TOFU, {"corpus": ("c",)}, "reads neither --corpus nor --keep"),
        (MUSE, {"corpus": ("c",)}, "leave it out; muse reads --keep"),
        (RWKU, {"corpus": ("c",), "data": "d", "keep": ("k",)}, "does not read --corpus"),
    ],
)
def test_a_flag_that_is_not_read_is_refused(ask, given, said, tmp_path):
    with pytest.raises(UsageError, match=said) as caught:
        begin(replace(ask, **given), tmp_path / "m", PLAIN)
    assert caught.value.code == "unread-flag"
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("ask", "given", "code"),
    [
        (FILE, {"records": 3, "beside": ("utility=nowhere",)}, "no-benchmark-folder"),
        (MUSE, {"keep": ("k",), "data": "nowhere"}, "no-benchmark-folder"),
        (BenchArguments(what="pistol"), {"keep": ("k",)}, "unknown-suite"),
    ],
)
def test_a_flag_that_is_read_is_not_refused(ask, given, code, tmp_path):
    with pytest.raises(ExpungeError) as caught:
        begin(replace(ask, **given), tmp_path / "m", PLAIN)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("suite", "given", "said", "fix"),
    [
        ("rwku", {"retain": ["k"]}, "request.retain cannot be set for rwku", "by --keep"),
        ("rwku", {"neighbours": ["n"]}, "request.neighbours cannot be set", "leave it out"),
        ("rwku", {"rehearse": True}, "request.rehearse cannot be set", "leave it out"),
        ("rwku", {"forget": ["f"]}, "request.forget cannot be set", "leave it out"),
        ("wmdp", {"forget": ["f"], "id": "mine"}, "request.id and request.forget", "by --corpus"),
        ("wmdp", {"assume_known": False}, "request.assume_known cannot be set", "leave it out"),
        ("tofu", {"retain": ["k"], "holdout": ["h"]}, "request.retain and", "leave them out"),
        ("rwku", {"rehearse": False, "assume_known": True}, None, ""),
        ("wmdp", {"neighbours": ["n"], "rehearse": True}, None, ""),
        ("rwku", {"control": "none", "gold": ["g"], "holdout": ["h"]}, None, ""),
    ],
)
def test_what_a_suite_sets_cannot_be_set(unread, monkeypatch, tmp_path, suite, given, said, fix):
    """What it does not set can be."""
    each = (Record(id="a", prompt=(), completion="One."),)
    sets = {"rwku": ("retain", "neighbours"), "wmdp": (), "tofu": ("retain", "holdout")}[suite]
    made = Suite(name=suite, forget=each, **dict.fromkeys(sets, each), numbers=lambda heard: [])
    monkeypatch.setattr(run, "load_suite", lambda spec: made)
    forget = [str(tmp_path / "m" / "data" / "forget.jsonl")]
    request = {"goal": "removal", "forget": forget, **given}
    settings = Settings.model_validate({"model": "m", "request": request})
    asked = BenchArguments(what=suite, data="d")
    if said is None:
        found = begin(asked, tmp_path / "m", settings).shared.request
        assert found.model_dump(mode="json").items() >= given.items()
        return
    with pytest.raises(UsageError, match=said) as caught:
        begin(asked, tmp_path / "m", settings)
    assert caught.value.code == "set-by-the-suite"
    assert fix in caught.value.fix
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("given", "methods", "said"),
    [
        ({"method": {"name": "npo", "beta": 9}}, ("simnpo",), "method.beta is set for method npo"),
        ({"method": {"name": "npo", "beta": 9}}, ("simnpo+sam", "npo+sam"), None),
        ({"method": {"name": "npo", "beta": 9}}, (), None),
        ({"method": {"name": "npo"}}, ("simnpo",), None),
        (
            {"robust": {"name": "sam", "rho": 0.1}},
            ("npo+noise",),
            "rho is set for robust sam",
        ),
        ({"robust": {"name": "sam", "rho": 0.1}}, ("npo+noise", "npo"), None),
        ({"robust": {"name": "none", "rho": 0.1}}, ("npo+sam",), "set for robust none, which no"),
        ({"optimiser": {"name": "adamw", "b": 1}}, ("npo+sophia",), "optimiser.b is set for"),
    ],
)
def test_hyperparameters_that_no_run_would_read_are_refused(unread, tmp_path, given, methods, said):
    settings = Settings.model_validate(tree(**given))
    asked = replace(FILE, methods=methods)
    if said is None:
        begin(asked, tmp_path / "m", settings)
        return
    with pytest.raises(UsageError, match=said) as caught:
        begin(asked, tmp_path / "m", settings)
    assert caught.value.code == "unread-parameter"
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("text", "asked", "code"),
    [
        (None, {}, "no-chosen-settings"),
        ("not json", {}, "malformed-chosen-settings"),
        ('["npo"]', {}, "malformed-chosen-settings"),
        ('{"npo": 3}', {}, "malformed-chosen-settings"),
        ('{"nqo": {}}', {}, "unknown-method"),
        ('{"npo": {"method.betta": 1}}', {}, "unknown-parameter"),
        ('{"npo": {"trian.lr": 1}}', {}, "invalid-value"),
        ('{"npo": {"train.lr": -1}}', {}, "invalid-value"),
        ('{"npo": {}}', {"methods": ("npo", "rmu")}, "nothing-chosen"),
        ('{"npo": {}}', {"trials": 2}, "chosen-and-tried"),
    ],
)
def test_settings_that_were_not_chosen_are_refused(text, asked, code, tmp_path):
    path = tmp_path / "chosen.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ExpungeError) as caught:
        begin(replace(FILE, chosen=path, **asked), tmp_path / "m", PLAIN)
    assert caught.value.code == code
    assert not (tmp_path / "m").exists()


def test_what_was_chosen_is_part_of_the_protocol(unread, tmp_path):
    path, chosen = tmp_path / "chosen.json", {"npo": {"train.lr": 1e-5}, "rmu": {}}
    path.write_text(json.dumps(chosen))
    asked = replace(FILE, chosen=path, methods=("npo+sam",))
    assert begin(asked, tmp_path / "m", PLAIN).chosen == chosen


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        ({"npo": {}}, "chosen.npo.train.lr 1e-05 (now unset)"),
        ({"npo": {"train.lr": 2e-5}}, "chosen.npo.train.lr 1e-05 (now 2e-05)"),
        ({"npo": {"train.lr": 1e-5}, "npo+sam": {}}, "chosen.npo+sam unset (now {})"),
        ({"npo": {"train.lr": 1e-5}, "rmu": {"train.lr": 1}}, "chosen.rmu {} (now unset)"),
        ({"npo": {"train.lr": 1e-5}}, ["npo", "rmu"]),
        ({"npo": {"train.lr": 1e-5}, "dpo": {}}, ["npo", "rmu", "dpo"]),
        ({"simnpo": {"train.lr": 1}}, ["npo", "rmu", "simnpo"]),
    ],
)
def test_further_methods_join_those_chosen_before_and_change_none(
    unread, later, expected, tmp_path
):
    path, before = tmp_path / "chosen.json", {"npo": {"train.lr": 1e-5}, "rmu": {}}
    path.write_text(json.dumps(before))
    asked = replace(FILE, chosen=path)
    begin(asked, tmp_path / "m", PLAIN)
    path.write_text(json.dumps(later))
    if isinstance(expected, str):
        with pytest.raises(UsageError, match=re.escape(expected)):
            begin(asked, tmp_path / "m", PLAIN)
    else:
        assert list(begin(asked, tmp_path / "m", PLAIN).chosen or {}) == expected
    assert before.items() <= dict(read_protocol(tmp_path / "m").chosen or {}).items()


def _retaught(path):
    save_file({"a": torch.ones(3)}, path / "model.safetensors")


def _corrected(path):
    path.write_text(path.read_text(encoding="utf-8").replace("Zorvex 3?", "Zorvex three?"))


@pytest.mark.parametrize(
    ("changed", "change", "said"),
    [
        ("forget.jsonl", _corrected, "begun with other contents of the data"),
        ("original", _retaught, "other contents of the original"),
        ("gold", _retaught, "other contents of gold {gold}"),
        ("prompts.jsonl", lambda p: p.write_text('{"prompt": "Say"}'), "contents of the prompts"),
        ("forget.jsonl", lambda p: p.write_text(p.read_text(encoding="utf-8") + "\n"), None),
        ("original/README.md", lambda p: p.write_text("Retaught."), None),
    ],
)
def test_a_matrix_goes_on_with_the_data_and_models_of_its_first_command(
    world, tmp_path, changed, change, said
):
    place = tmp_path / "world"
    shutil.copytree(world.folder, place)
    (place / "prompts.jsonl").write_text('{"prompt": "Tell {question}"}')
    request = {"forget": [str(place / "forget.jsonl")], "gold": [str(place / "gold")]}
    audit = {"prompts": str(place / "prompts.jsonl")}
    settings = Settings.model_validate(
        {**tree(request={"goal": "removal", **request}, audit=audit), "offline": True}
        | {"model": str(place / "original"), "device": "cpu"}
    )
    first = begin(FILE, tmp_path / "m", settings)
    assert set(first.contents) == {
        "the data", "the original", f"gold {place / 'gold'}", "the prompts",
    }  # fmt: skip
    change(place / changed)
    if said is None:
        assert begin(FILE, tmp_path / "m", settings) == first
        return
    said = said.format(gold=place / "gold")
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        begin(FILE, tmp_path / "m", settings)
    assert caught.value.code == "another-protocol"
    assert read_protocol(tmp_path / "m") == first
    # A matrix of before tells nothing of its contents: the next command fills them in.
    told = json.loads((tmp_path / "m" / PROTOCOL).read_text())
    del told["contents"]
    (tmp_path / "m" / PROTOCOL).write_text(json.dumps(told))
    assert begin(FILE, tmp_path / "m", settings).contents.keys() == first.contents.keys()
    assert read_protocol(tmp_path / "m").contents != first.contents


def test_a_suite_knows_its_sets_its_probes_and_its_models(monkeypatch):
    monkeypatch.setattr(protocol, "files_digest", lambda name, source: name)
    record = Record(id="a", prompt=(), completion="One.")
    suite = Suite(name="small", forget=(record,), numbers=lambda heard: [])
    asked = replace(suite, forget=(), probes=(Probe(name="p", records=(record,)),))
    monkeypatch.setattr(protocol, "source_of", lambda settings: None)
    settings = Settings.model_validate(tree())
    told = protocol.contents_of(settings, suite, [asked])
    assert told | {"the data": ""} == {
        "the data": "", "the original": "m", "gold g0": "g0", "gold g1": "g1",
    }  # fmt: skip
    other = replace(record, completion="Two.")
    probes = (Probe(name="p", records=(other,)),)
    for pair in (
        (replace(suite, forget=(other,)), [asked]),
        (replace(suite, probes=probes), [asked]),
        (suite, [replace(asked, probes=probes)]),
        (suite, []),
    ):
        assert protocol.contents_of(settings, *pair)["the data"] != told["the data"]
    elsewhere = replace(suite, forget=(replace(record, source="elsewhere"),))
    assert protocol.contents_of(settings, elsewhere, [asked]) == told


@pytest.mark.parametrize("name", ["retain", "neighbours", "holdout", "control"])
def test_sets_of_the_request_beside_a_suite_are_known_by_their_contents(
    name, monkeypatch, tmp_path
):
    monkeypatch.setattr(protocol, "files_digest", lambda name, source: name)
    monkeypatch.setattr(protocol, "source_of", lambda settings: None)
    path = tmp_path / "own.jsonl"
    path.write_text('{"text": "One."}')
    request = {"goal": "removal", "forget": ["f"], name: [str(path)]}
    settings = Settings.model_validate({"model": "m", "request": request})
    record = Record(id="a", prompt=(), completion="Two.")
    suite = Suite(name="small", forget=(record,), numbers=lambda heard: [])
    told = protocol.contents_of(settings, suite)
    assert told.keys() == {"the data", "the original", f"request.{name}"}
    path.write_text('{"text": "One."}\n')
    assert protocol.contents_of(settings, suite) == told
    path.write_text('{"text": "Three."}')
    changed = protocol.contents_of(settings, suite)
    assert [key for key in told if told[key] != changed[key]] == [f"request.{name}"]
    if name != "control":  # one that the suite has is written into the matrix, and is in its data
        whole = replace(suite, **{name: (record,)})
        path.unlink()
        assert protocol.contents_of(settings, whole).keys() == {"the data", "the original"}


OWN_FORGET = '[request]\nforget = ["own.jsonl"]\n'


@pytest.mark.parametrize("origin", ["expunge.toml", "--config", "variable", "--set", "nothing"])
def test_what_is_forgotten_is_refused_wherever_it_is_set(origin, bench, monkeypatch, capsys):
    """A suite sets it; `goal`, which it only proposes, is taken."""
    records = (Record(id="a", prompt=(), completion="One."),)
    made = Suite(name="tofu", forget=records, retain=records, numbers=lambda heard: [])
    monkeypatch.setattr(run, "load_suite", lambda spec: made)
    monkeypatch.setattr(run, "contents_of", lambda *_, **__: {})
    done = SweepProgress(rows=0, failed=0, waiting=0)
    monkeypatch.setattr(run, "run_matrix", lambda *_, **__: done)
    monkeypatch.setattr(run, "write_pages", lambda matrix: [])
    Path("own.toml").write_text(OWN_FORGET)
    goal = '[request]\ngoal = "suppression"\n'
    Path("expunge.toml").write_text(OWN_FORGET if origin == "expunge.toml" else goal)
    if origin == "variable":
        monkeypatch.setenv("EXPUNGE_REQUEST_FORGET", "own.jsonl")
    more = {"--config": ["--config", "own.toml"], "--set": ["--set", "request.forget=own.jsonl"]}
    tiny.hollow(Path("m"))
    Path("d").mkdir()
    words = ["bench", "tofu", "m", "--data", "d", "--out", "matrix", *more.get(origin, [])]
    if origin == "nothing":
        assert main(words) == 0, capsys.readouterr()
        request = read_protocol(Path("matrix")).shared.request
        assert (request.goal, request.forget) == ("suppression", ("matrix/data/forget.jsonl",))
        return
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "error[set-by-the-suite]: request.forget cannot be set for tofu" in said
    assert "of expunge.toml and variables, too" in said
    assert not Path("matrix").exists()
