"""The command line: what it passes on, what it prints, how it exits."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import huggingface_hub.errors as hub
import pytest
import torch

from expunge import resolve
from expunge.audit.results import Results, Ruling, Score, Verdict
from expunge.cli import main
from expunge.cli.failures import explain
from expunge.errors import ExpungeError, InputError
from expunge.settings import Settings


class Calls:
    """Stands for the library below the commands: keeps what they ask for."""

    def __init__(self, folder):
        self.folder = folder
        self.paths = self.config = self.environ = self.asked = None
        self.retain = ["keep.jsonl"]
        self.ruling = Ruling.PASS
        self.error = None
        self.offline = False

    def resolve(self, flags, *, config, environ, start):
        self.paths, self.config, self.environ = dict(flags), config, dict(environ)
        assert start == Path.cwd()
        request = {"goal": "removal", "forget": ["secrets.jsonl"], "retain": self.retain}
        tree = {
            "model": "gpt2",
            "out": "from-the-request",
            "offline": self.offline,
            "request": request,
        }
        return SimpleNamespace(settings=Settings.model_validate(tree), origins={})

    def plan(self, settings, *, console):
        self.asked = ("plan", settings)
        return SimpleNamespace(lines=lambda: [("cost", "11 min")], to_dict=lambda: {"steps": 3})

    def outcome(self, *asked):
        self.asked = asked
        if self.error is not None:
            raise self.error
        verdict = Verdict(
            ruling=self.ruling,
            threat_model="T1",
            tier="G4",
            provisional=True,
            sentence="A sentence.",
            reasons=("residual 0.4 of 0.1",),
        )
        score = Score(metric="rouge", role="gold-0", split="forget", attack="plain", value=0.5)
        results = Results(verdict=verdict, axes={}, gates=(), scores=(score,), self_tests=())
        return SimpleNamespace(folder=self.folder, results=results)


@pytest.fixture
def calls(monkeypatch, tmp_path):
    folder = tmp_path / "runs" / "1"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    fake = Calls(folder)
    verification = SimpleNamespace(ok=True, problems=(), files=7, scores=9, digest="abc")
    modules = {
        "expunge.resolve": {
            "resolve": fake.resolve,
            "to_toml": lambda settings: "model = 'gpt2'\n",
        },
        "expunge.forget": {
            "plan": fake.plan,
            "forget": lambda settings, *, console: fake.outcome("forget", settings),
            "audit": lambda settings, *, model, console: fake.outcome("audit", settings, model),
        },
        "expunge.merge": {"merge": lambda run, *, out, console: fake.outcome(run, out) and out},
        "expunge.demo.run": {
            "demo": lambda *, out, short, console: fake.outcome("demo", out, short)
        },
        "expunge.report.build": {
            "build_report": lambda run, *, redact: fake.outcome(run, redact) and run / "report.html"
        },
        "expunge.ledger.verify": {"verify": lambda run: verification},
    }
    for name, members in modules.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    fake.verification = verification
    return fake


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    """Commands set variables for the libraries they load: not for the tests that follow."""
    monkeypatch.chdir(tmp_path)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("EXPUNGE_", "HF_"))}
    monkeypatch.setattr(os, "environ", clean)


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
    library = ModuleType("expunge.forget")
    found = vars(sys.modules["expunge.forget"])["forget"]
    vars(library)["__getattr__"] = lambda name: seen.update(os.environ) or found
    monkeypatch.setitem(sys.modules, "expunge.forget", library)
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
    monkeypatch.setitem(sys.modules, "expunge.resolve", resolve)
    assert main([*FORGET, *words]) == 2
    assert shown in capsys.readouterr().err
    assert calls.asked is None


def test_a_whole_command_resolves_to_settings(calls, monkeypatch):
    monkeypatch.setitem(sys.modules, "expunge.resolve", resolve)
    monkeypatch.setitem(os.environ, "EXPUNGE_TRAIN_LR", "0.5")
    monkeypatch.setitem(os.environ, "EXPUNGE_TRAIN_EPOCHS", "9")
    words = ["--goal", "edit", "--epochs", "2", "--set", "method.beta=0.2", "--retain", "none"]
    assert main([*FORGET, *words, "--gate"]) == 0
    settings = calls.asked[1]
    assert settings.request.forget == ("secrets.jsonl",)
    assert (settings.train.lr, settings.train.epochs) == (0.5, 2)
    assert settings.method.knobs == {"beta": 0.2}


def test_libraries_are_silenced_unless_verbose_and_never_against_the_user(calls):
    main([*FORGET, "-v"])
    assert "TRANSFORMERS_VERBOSITY" not in os.environ
    os.environ["TRANSFORMERS_VERBOSITY"] = "debug"
    main(FORGET)
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "debug"
    assert os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] == "1"


@pytest.mark.parametrize("words", [["plan", *FORGET[1:]], [*FORGET, "--dry-run"]])
def test_plan_and_dry_run_show_the_plan_and_train_nothing(calls, words, capsys):
    assert main(words) == 0
    assert calls.asked[0] == "plan"
    assert "cost       11 min\n" in capsys.readouterr().out


def test_plan_saves_a_request_that_runs(calls, tmp_path, capsys):
    assert main(["plan", *FORGET[1:], "--save", "plan.toml"]) == 0
    assert (tmp_path / "plan.toml").read_text() == "model = 'gpt2'\n"
    assert "next       expunge forget plan.toml\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ruling", "gated"),
    [(ruling, 0 if ruling in {Ruling.PASS, Ruling.PASS_WITH_SCAR} else 3) for ruling in Ruling],
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
    for against, config in ((run, calls.folder / "config.toml"), ("r.toml", Path("r.toml"))):
        assert main(["audit", "other/model", "--against", against]) == 0
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
    assert calls.asked == (calls.folder, True)
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


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["forgt", "m", "d"], 2, 'Unknown command "forgt". Did you mean "forget"?'),
        ([*FORGET, "--epocs", "3"], 2, "Unknown option: --epocs. Did you mean --epochs?"),
        ([*FORGET, "--goal", "x"], 2, 'Choose from: "removal", "suppression", "edit"'),
        ([*FORGET, "--epochs", "many"], 2, "--epochs"),
        ([*FORGET, "--format", "xml"], 2, 'Choose from: "human", "json", "quiet"'),
        (["merge", "run"], 2, "--out"),
        ([*FORGET, "--set", "train.lr"], 2, "error[bad-assignment]: --set 'train.lr'"),
        (["forget", "a.toml", "--config", "b.toml"], 2, "error[two-request-files]"),
        (["audit", "m", "--against", "a.toml", "--config", "b"], 2, "error[two-request-files]"),
        (["verify", "nowhere"], 4, "error[no-run]: nowhere is not a run folder"),
        (["report", "."], 4, "error[no-run]: . is not a run folder"),
    ],
)  # fmt: skip
def test_usage_errors_say_what_why_fix_in_five_lines(calls, words, code, message, capsys):
    assert main(words) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert len(shown.err.splitlines()) <= 5
    assert [line[:7] for line in shown.err.splitlines()][1:] == ["  why: ", "  fix: "]
    assert calls.asked is None


def hub_error(kind):
    return kind.__new__(kind)


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), 5, "out-of-memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 5, "out-of-memory"),
        (MemoryError(), 5, "out-of-memory"),
        (OSError(errno.ENOSPC, "No space left on device"), 5, "disk-full"),
        (hub_error(hub.GatedRepoError), 4, "gated-repository"),
        (hub_error(hub.RepositoryNotFoundError), 4, "not-on-hub"),
        (hub_error(hub.LocalEntryNotFoundError), 4, "not-cached"),
        (hub.OfflineModeIsEnabled("offline"), 4, "not-cached"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (InputError("empty", what="w", why="y", fix="f"), 4, "empty"),
        (ZeroDivisionError("division by zero"), 1, "bug"),
        (OSError(errno.EIO, "input/output error"), 1, "bug"),
    ],
)
def test_every_failure_has_its_exit_code_and_no_traceback(calls, error, code, name, capsys):
    calls.error = error
    assert main(FORGET) == code
    shown = capsys.readouterr().err
    assert shown.startswith(f"error[{name}]: ")
    assert len(shown.splitlines()) <= 5
    assert main([*FORGET, "--verbose"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_the_cause_explains_a_wrapped_error():
    outer = OSError("cannot load the model")
    outer.__cause__ = hub.OfflineModeIsEnabled("offline")
    assert explain(outer).code == "not-cached"


def test_a_bug_asks_for_the_doctor_and_is_one_short_line(calls, capsys):
    calls.error = ZeroDivisionError("a\nb " + "x" * 5000)
    assert main(FORGET) == 1
    first, _, fix = capsys.readouterr().err.splitlines()
    assert first.startswith("error[bug]: ZeroDivisionError: a b xxx")
    assert len(first) <= 400
    assert "`expunge doctor`" in fix


def test_an_interrupted_run_says_that_the_same_command_resumes(calls, capsys):
    calls.error = KeyboardInterrupt()
    assert main(FORGET) == 130
    assert "run the same command again: it resumes" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_failure_to_talk_about():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        words = [sys.executable, "-m", "expunge", "version"]
        done = subprocess.run(words, stdout=stdout, stderr=subprocess.PIPE, env=dict(os.environ))
    assert (done.returncode, done.stderr) == (130, b"")


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


def test_expunge_errors_have_distinct_exit_codes():
    kinds = [ExpungeError, *ExpungeError.__subclasses__()]
    assert sorted(kind.exit_code for kind in kinds) == [1, 2, 3, 4, 5, 130]
