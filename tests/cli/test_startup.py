"""Starting up: help is quick because nothing heavy is loaded, and importing changes nothing."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import expunge
from expunge.cli.main import COMMANDS
from expunge.cli.options import COMMAND_VARIABLES
from expunge.config.resolve import resolve
from expunge.errors import ExpungeError

HEAVY = (
    "torch",
    "transformers",
    "peft",
    "numpy",
    "scipy",
    "matplotlib",
    "datasets",
    "pydantic",
    "huggingface_hub",
    "jinja2",
)
LOADED = f"""
import contextlib, io, json, sys
from expunge.cli import main
for words in json.load(sys.stdin):
    said, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
        code = main(words)
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    print(json.dumps([code, errors.getvalue(), loaded, said.getvalue()]))
"""
NAMES = sorted(COMMANDS)
HELPS = ("--version", "--help", *(f"{name} --help" for name in NAMES))


def python(script, stdin=""):
    words = [sys.executable, "-c", script]
    return subprocess.run(words, input=stdin, capture_output=True, text=True)


@pytest.fixture(scope="module")
def helps():
    """Code, errors, heavy libraries and words of each help; one process shows them all."""
    done = python(LOADED, json.dumps([words.split() for words in HELPS]))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return dict(zip(HELPS, lines, strict=True))


@pytest.mark.parametrize("words", HELPS)
def test_help_loads_nothing_heavy(helps, words):
    code, errors, loaded, said = helps[words]
    assert (code, errors, loaded) == (0, "", [])
    assert "Usage: expunge" in said or words == "--version"


LISTED = ("metrics", "methods", "explain", "cache", "schema results", "version")


def test_what_needs_no_model_is_listed_without_loading_torch(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path))
    done = python(LOADED, json.dumps([words.split() for words in LISTED]))
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    slow = {"torch", "transformers", "peft", "scipy", "matplotlib", "datasets"}
    found = [(code, slow & set(loaded)) for code, _, loaded, _ in lines]
    assert found == [(0, set())] * len(LISTED), done.stderr


def test_a_run_is_verified_and_reported_without_loading_torch(world, tmp_path):
    run = str(tmp_path / "run")
    expunge.forget(world.settings(out=run))
    done = python(LOADED, json.dumps([["verify", run], ["report", run]]))
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    slow = {"torch", "transformers", "peft", "datasets"}
    found = [(code, slow & set(loaded)) for code, _, loaded, _ in lines]
    assert found == [(0, set())] * 2, (done.stdout, done.stderr)


@pytest.mark.parametrize("name", NAMES)
def test_help_has_an_example_and_names_a_variable_for_every_flag(helps, name):
    shown = helps[f"{name} --help"][-1]
    assert f"Example:\n  expunge {name}" in shown
    rows = [line.strip("│* ") for line in shown.splitlines() if line.startswith("│")]
    flags = [i for i, row in enumerate(rows) if row.startswith("--")]
    texts = [" ".join(rows[i:j]) for i, j in zip(flags, [*flags[1:], len(rows)], strict=True)]
    assert len(texts) >= 3
    assert [text for text in texts if "EXPUNGE_" not in text] == []


def test_a_variable_of_one_command_stands_in_the_way_of_no_other(helps, tmp_path):
    words = " ".join(" ".join(shown[-1].replace("│", " ").split()) for shown in helps.values())
    shown = set(re.findall(r"\bEXPUNGE_[A-Z0-9_]+", words))
    assert sorted(COMMAND_VARIABLES - shown) == []  # the list has no variable that no flag has
    named = shown - COMMAND_VARIABLES - {"EXPUNGE_KEY"}
    refused = {}
    for name in sorted(named):
        try:
            resolve({}, config=None, environ={name: "1"}, start=tmp_path)
        except ExpungeError as error:
            refused[name] = error.code
    assert {"EXPUNGE_MODEL", "EXPUNGE_REQUEST_FORGET"} <= named
    assert [name for name, code in refused.items() if code == "unknown-key"] == []


def test_all_commands_are_in_the_help(helps):
    shown = helps["--help"][-1]
    names = "annex approve attack audit bench cache certificate chain chat compat completion "
    names += "demo doctor evidence explain forget gold init keys ledger letter locate merge "
    names += "methods metrics plan plant probes push reapply recheck recipe report request "
    names += "rollback schema trace train tune verify version view"
    assert " ".join(NAMES) == names
    assert [name for name in NAMES if f"│ {name} " not in shown] == []


def test_importing_changes_nothing_and_loads_nothing_heavy():
    script = f"""
import logging, os, sys, warnings
before = (dict(os.environ), list(logging.getLogger().handlers), list(warnings.filters))
import expunge
assert before == (dict(os.environ), list(logging.getLogger().handlers), list(warnings.filters))
assert not [name for name in {HEAVY!r} if name in sys.modules]
assert expunge.__version__.count(".") == 2
"""
    done = python(script)
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_leaves_the_defaults_of_torch_alone():
    script = """
import torch
state = lambda: (torch.get_default_dtype(), torch.is_grad_enabled(), torch.initial_seed(),
                 torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
before = state()
import expunge
for name in expunge.__all__:
    getattr(expunge, name)
assert before == state()
"""
    done = python(script)
    assert done.returncode == 0, done.stderr  # optional libraries may warn when they are loaded


def test_public_names_are_sorted_complete_and_documented():
    assert expunge.__all__ == sorted(expunge.__all__)
    assert dir(expunge) == expunge.__all__
    undocumented = [
        name for name in expunge.__all__ if name != "__version__" and not vars_doc(name)
    ]
    assert undocumented == []


def vars_doc(name):
    return getattr(expunge, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'forgte'"):
        expunge.forgte  # noqa: B018


def test_no_room_has_the_name_of_a_public_function():
    rooms = {path.stem for path in Path(expunge.__file__).parent.iterdir()}
    assert rooms & set(expunge.__all__) == set()
