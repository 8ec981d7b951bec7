"""A library that only notes what the commands ask of it."""

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from expunge.config.settings import Settings
from expunge.evals.results import Results, Ruling, Score, Verdict


class Calls:
    """Stands for the library below the commands: keeps what they ask for."""

    def __init__(self, folder):
        self.folder = folder
        self.paths = self.config = self.environ = self.asked = None
        self.retain = ["keep.jsonl"]
        self.ruling = Ruling.PASS
        self.error = None
        self.offline = False
        self.threat_model = "T1"

    def resolve(self, flags, *, config, environ, start, defaults=None):
        self.paths, self.config, self.environ = dict(flags), config, dict(environ)
        assert start == Path.cwd()
        request = {"goal": "removal", "forget": ["secrets.jsonl"], "retain": self.retain}
        request["threat_model"] = self.threat_model
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
        return SimpleNamespace(folder=self.folder, results=results, steps=64)


@pytest.fixture
def calls(monkeypatch, tmp_path):
    folder = tmp_path / "runs" / "1"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    fake = Calls(folder)
    verification = SimpleNamespace(
        ok=True, problems=(), files=7, scores=9, digest="abc", notes=(), signer=""
    )
    modules = {
        "expunge.config.resolve": {
            "resolve": fake.resolve,
            "to_toml": lambda settings: "model = 'gpt2'\n",
        },
        "expunge.pipeline.forget": {
            "plan": fake.plan,
            "forget": lambda settings, *, console: fake.outcome("forget", settings),
            "audit": lambda settings, *, model, against, console: fake.outcome(
                "audit", settings, model, against
            ),
        },
        "expunge.pipeline.merge": {
            "merge": lambda run, *, out, offline, console: fake.outcome(Path(run), out) and out
        },
        "expunge.pipeline.early_checks": {
            name: lambda *given, **named: None for name in ("check_settings", "check_data")
        },
        "expunge.models.reference": {
            "require_adapter": lambda reference: reference,
            "require_model": lambda *given, **named: None,
            "run_of_model": lambda folder: folder,
        },
        "expunge.provenance.published": {"is_published": lambda folder: False},
        "expunge.demo.run": {
            "demo": lambda *, out, short, console: fake.outcome("demo", out, short)
        },
        "expunge.reporting.build": {
            "build_report": lambda run, *, redact, key: (
                fake.outcome(run, redact) and run / "report.html"
            )
        },
        "expunge.provenance.verify": {
            "verify": lambda run, *, key, signer, approver: verification,
            "verify_published": lambda folder, *, signer: verification,
        },
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
    set_by_commands = ("EXPUNGE_", "HF_", "TRANSFORMERS_", "TQDM_", "DATASETS_")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(set_by_commands)}
    monkeypatch.setattr(os, "environ", clean)
