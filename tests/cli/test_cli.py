"""The command line: what it passes on and what it prints."""

import json
import logging
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from expunge.cli import main
from expunge.config import resolve
from expunge.evals.results import Ruling


def events(text):
    return [json.loads(line) for line in text.splitlines()]


FORGET = ["forget", "gpt2", "secrets.jsonl"]


@pytest.mark.parametrize(
    ("words", "paths"),
    [
        ([], {"model": "gpt2", "request.forget": ["secrets.jsonl"]}),
        (["more.csv"], {"model": "gpt2", "request.forget": ["secrets.jsonl", "more.csv"]}),
        (["--goal", "edit"], {"request.goal": "edit"}),
        (["--retain", "auto"], {"request.retain": "auto"}),
        (["--retain", "a", "--retain", "b"], {"request.retain": ["a", "b"]}),
        (["--retain", "a", "b"], {"request.retain": ["a"], "request.forget": [FORGET[2], "b"]}),
        (["--neighbours", "n"], {"request.neighbours": ["n"]}),
        (["--holdout", "h"], {"request.holdout": ["h"]}),
        (["--gold", "g1", "--gold", "g2"], {"request.gold": ["g1", "g2"]}),
        (["--method", "npo", "--epochs", "3"], {"method.name": "npo", "train.epochs": 3}),
        (["--lr", "1e-4", "--seed", "7"], {"train.lr": 1e-4, "train.seed": 7}),
        (["--full", "--adapter"], {"train.full": True, "train.adapter": True}),
        (["--out", "here"], {"out": "here"}),
        (["--set", "train.batch=4"], {"train.batch": "4"}),
        (["--set", "a.b = 1", "--set", "c=d"], {"a.b": "1", "c": "d"}),
        (["--set", "request.id=a=b"], {"request.id": "a=b"}),
        (["--offline"], {"offline": True}),
    ],
)  # fmt: skip
def test_flags_become_key_paths(calls, words, paths):
    assert main([*FORGET, *words]) == 0
    assert {**calls.paths, **paths} == calls.paths
    expected = {"model", "request.forget", *paths}
    assert set(calls.paths) == expected, "what is not given is not passed on"


@pytest.mark.parametrize("words", [["request.toml"], ["--config", "request.toml"]])
def test_a_request_file_may_stand_for_the_model(calls, words):
    assert main(["forget", *words]) == 0
    assert calls.config == Path("request.toml")
    assert calls.paths == {}


def test_variables_of_commands_are_not_taken_for_settings(calls, monkeypatch):
    monkeypatch.setitem(os.environ, "EXPUNGE_FORMAT", "quiet")
    monkeypatch.setitem(os.environ, "EXPUNGE_GATE", "1")
    monkeypatch.setitem(os.environ, "EXPUNGE_TRAIN_LR", "0.1")
    calls.ruling = Ruling.INVALID
    assert main(FORGET) == 3
    assert {k for k in calls.environ if k.startswith("EXPUNGE_")} == {"EXPUNGE_TRAIN_LR"}


def test_offline_closes_the_hub_before_it_is_loaded(calls):
    assert main([*FORGET, "--offline"]) == 0
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_the_scene_is_set_before_the_library_is_loaded(calls, monkeypatch):
    seen = {}
    library = ModuleType("expunge.pipeline.forget")
    found = vars(sys.modules["expunge.pipeline.forget"])["forget"]
    vars(library)["__getattr__"] = lambda name: seen.update(os.environ) or found
    monkeypatch.setitem(sys.modules, "expunge.pipeline.forget", library)
    calls.offline = True
    assert main(FORGET) == 0
    assert (seen["HF_HUB_OFFLINE"], seen["HF_HUB_DISABLE_PROGRESS_BARS"]) == ("1", "1")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([], "error[no-goal]"),
        (["--goal", "removal", "--set", "train.lrr=1"], "did you mean `train.lr`?"),
        (["--goal", "removal", "--set", "train.batch=many"], "`train.batch` has a value"),
        (["--config", "absent.toml"], "error[config-missing]"),
    ],
)
def test_settings_that_cannot_be_resolved_are_usage_errors(
    calls, words, shown, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "expunge.config.resolve", resolve)
    assert main([*FORGET, *words]) == 2
    assert shown in capsys.readouterr().err
    assert calls.asked is None


def test_a_whole_command_resolves_to_settings(calls, monkeypatch):
    monkeypatch.setitem(sys.modules, "expunge.config.resolve", resolve)
    monkeypatch.setitem(os.environ, "EXPUNGE_TRAIN_LR", "0.5")
    monkeypatch.setitem(os.environ, "EXPUNGE_TRAIN_EPOCHS", "9")
    words = ["--goal", "edit", "--epochs", "2", "--set", "method.beta=0.2", "--retain", "none"]
    assert main([*FORGET, *words, "--gate"]) == 0
    settings = calls.asked[1]
    assert settings.request.forget == ("secrets.jsonl",)
    assert (settings.train.lr, settings.train.epochs) == (0.5, 2)
    assert settings.method.parameters == {"beta": 0.2}


def test_libraries_are_silenced_unless_verbose_and_never_against_the_user(calls):
    chatty = logging.getLogger("torchao")
    chatty.setLevel(logging.NOTSET)
    main([*FORGET, "-v"])
    assert "TRANSFORMERS_VERBOSITY" not in os.environ
    assert chatty.level == logging.NOTSET
    os.environ["TRANSFORMERS_VERBOSITY"] = "debug"
    main(FORGET)
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "debug"
    assert os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] == "1"
    assert chatty.level == logging.ERROR


def test_the_first_line_tells_only_of_a_network_that_is_closed(calls, capsys):
    main(FORGET)
    main([*FORGET, "--offline"])
    lines = capsys.readouterr().out.splitlines()
    first, then = (line for line in lines if line.startswith("expunge "))
    assert first.endswith("GiB")
    assert then.endswith("GiB · offline")


@pytest.mark.parametrize("words", [["plan", *FORGET[1:]], [*FORGET, "--dry-run"]])
def test_plan_and_dry_run_show_the_plan_and_train_nothing(calls, words, capsys):
    assert main(words) == 0
    assert calls.asked[0] == "plan"
    assert "cost       11 min\n" in capsys.readouterr().out


def test_plan_saves_a_request_that_runs(calls, tmp_path, capsys):
    assert main(["plan", *FORGET[1:], "--save", "plan.toml"]) == 0
    assert (tmp_path / "plan.toml").read_text() == "model = 'gpt2'\n"
    assert "next       expunge forget plan.toml\n" in capsys.readouterr().out


@pytest.mark.parametrize(("answer", "code"), [(None, 2), ("", 2), ("no", 2), ("y", 0), ("yes", 0)])
def test_plan_asks_before_it_overwrites(calls, answer, code, tmp_path, capsys, monkeypatch):
    """Where nobody can answer, it refuses; a file with the same content is no loss."""
    path = tmp_path / "plan.toml"
    path.write_text("mine")
    if answer is not None:
        typed = SimpleNamespace(isatty=lambda: True, readline=lambda: f"{answer}\n")
        monkeypatch.setattr(sys, "stdin", typed)
    assert main(["plan", *FORGET[1:], "--save", "plan.toml"]) == code
    assert ("error[file-exists]" in capsys.readouterr().err) is (code == 2)
    assert path.read_text() == ("mine" if code else "model = 'gpt2'\n")
    assert (calls.asked is None) is (code == 2), "nothing is planned before the answer"
    path.write_text("model = 'gpt2'\n")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    assert main(["plan", *FORGET[1:], "--save", "plan.toml"]) == 0


@pytest.mark.parametrize(
    ("ruling", "gated"),
    [(ruling, 0 if ruling is Ruling.PASS else 3) for ruling in Ruling],
)
def test_only_a_gate_turns_a_verdict_into_an_exit_code(calls, ruling, gated, capsys):
    calls.ruling = ruling
    assert main(FORGET) == 0
    assert capsys.readouterr().err == ""
    assert main([*FORGET, "--gate"]) == gated
    shown = capsys.readouterr().err
    expected = f"error[gate-failed]: verdict {ruling} under T1 at tier G4\n  why: residual 0.4"
    assert shown.startswith(expected if gated else "")
    assert bool(shown) == bool(gated)


@pytest.mark.parametrize(("asked", "gated"), [("T1", 0), ("T2", 3), ("T3", 3)])
def test_a_gate_does_not_open_for_less_than_was_asked(calls, asked, gated, capsys):
    """The verdict of these calls is a pass under T1."""
    calls.threat_model = asked
    assert main([*FORGET, "--gate"]) == gated
    assert (f"; {asked} was asked for" in capsys.readouterr().err) == bool(gated)


def test_a_gate_needs_a_retain_set_that_somebody_chose(calls, capsys):
    calls.retain = "auto"
    assert main([*FORGET, "--gate"]) == 2
    assert calls.asked is None, "nothing is trained first"
    assert "error[gate-without-retain]" in capsys.readouterr().err
    calls.retain = "none"
    assert main([*FORGET, "--gate"]) == 0


def test_json_has_scores_verdict_and_done_on_stdout(calls, capsys):
    calls.ruling = Ruling.FAIL_RESIDUAL
    assert main([*FORGET, "--gate", "--format", "json"]) == 3
    rows = events(capsys.readouterr().out)
    kinds = [row["event"] for row in rows if row["event"] != "note"]
    assert kinds == ["score", "verdict", "done", "error"]
    done = next(row for row in rows if row["event"] == "done")
    assert done == {
        "event": "done",
        "folder": str(calls.folder),
        "ruling": "FAIL-RESIDUAL",
        "exit": 3,
    }
    assert (rows[-1]["code"], rows[-1]["exit"]) == ("gate-failed", 3)


def test_quiet_says_nothing(calls, capsys):
    assert main([*FORGET, "--format", "quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_audit_takes_a_run_a_request_or_data(calls, tmp_path):
    (calls.folder / "config.toml").write_text("")
    run = str(calls.folder)
    for against, config, held in (
        (run, calls.folder / "config.toml", calls.folder),
        ("r.toml", Path("r.toml"), None),
    ):
        assert main(["audit", "other/model", "--against", against]) == 0
        assert calls.asked[3] == held, "only a run has a request that can be another one"
        assert (calls.config, calls.paths) == (config, {})
        assert (calls.asked[0], calls.asked[2]) == ("audit", "other/model")
        assert calls.asked[1].out is None, "the run it is held against is not written to"
    words = ["--against", "a.jsonl", "b.jsonl", "--original", "gpt2", "--out", "here"]
    assert main(["audit", "other/model", *words]) == 0
    assert calls.paths == {"model": "gpt2", "request.forget": ["a.jsonl", "b.jsonl"], "out": "here"}
    assert calls.asked[1].out == "here"


def test_report_merge_and_demo_pass_on_what_was_asked(calls, capsys):
    run = str(calls.folder)
    assert main(["report", run]) == 0
    assert calls.asked == (calls.folder, None)
    assert "report.html" in capsys.readouterr().out
    assert main(["report", run, "--no-redact"]) == 0
    assert calls.asked == (calls.folder, False)
    assert main(["merge", run, "--out", "merged"]) == 0
    assert calls.asked == (calls.folder, Path("merged"))
    assert main(["demo", "--short", "--out", "d"]) == 0
    assert calls.asked == ("demo", Path("d"), True)


def test_verify_names_each_problem_and_exits_with_3(calls, capsys, monkeypatch):
    assert main(["verify", str(calls.folder)]) == 0
    assert "verified   7 files, 9 numbers computed again\n" in capsys.readouterr().out
    calls.verification.ok = False
    calls.verification.problems = (
        SimpleNamespace(path="a.json", what="changed"),
        SimpleNamespace(path="b.json", what="missing"),
    )
    assert main(["verify", str(calls.folder)]) == 3
    shown = capsys.readouterr()
    assert "problem    a.json: changed\nproblem    b.json: missing\n" in shown.out
    assert shown.err.startswith("error[not-verified]: 2 problem(s)")


def test_doctor_can_be_pasted(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", "/srv/private-name/hub")
    assert main(["doctor", "--offline"]) == 0
    shown = capsys.readouterr().out
    assert "offline    yes, --offline\n" in shown
    assert "here       ~" in shown
    assert torch.__version__ in shown
    assert "private-name" not in shown
    assert str(tmp_path) not in shown


def test_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    version = capsys.readouterr().out.strip()
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"expunge    {version}\n"
    assert version.count(".") == 2
