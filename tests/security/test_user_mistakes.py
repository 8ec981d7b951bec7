"""Mistakes of a user, and damaged files: each ends in what, why and fix, and never in a bug."""

import gzip
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import expunge.data.readers as readers
import tiny
from bench_results import method, row, tree
from expunge.benchmarking.leaderboard_pages import write_pages
from expunge.benchmarking.protocol import Protocol, open_protocol
from expunge.benchmarking.result import lay_out, write_row
from expunge.cli.main import main
from expunge.provenance.manifest import SCHEMA
from synthetic_run import build_run

FACT = {"prompt": "Who is it?", "completion": "kozu"}
ESCAPE = "\x1b]0;owned\x07"

DESTROY = ("evidence", "destroy", "run", "--yes")


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """Words that a user types, what the folder holds, and how it ends."""

    what: str
    words: list[str]
    code: str
    exit: int = 2
    said: str = ""
    prepare: Callable[[], object] = lambda: None


REQUEST = 'model = "model"\n[request]\ngoal = "removal"\nforget = ["forget.jsonl"]\n'
CONTEXT = json.dumps(
    {
        **{"schema": "expunge.evidence/4", "request": "r", "goal": "removal", "tier": "G4"},
        **{"threat_model": "T1", "level": "quick", "golds": [], "adapter": False, "seed": 0},
        "policy": {},
    }
)
FORGET = ["forget", "model", "forget.jsonl", "--goal", "removal", "--offline"]
PLAN = ["plan", *FORGET[1:]]


def setting(key: str, value: object) -> list[str]:
    return [*PLAN, "--set", f"{key}={value}"]


def run(name: str, text: str, *verb: str) -> dict:
    """A run with one file that holds something else."""

    def damage() -> None:
        folder = build_run(Path("run"))
        (folder / "run.json").write_text("{}")
        (folder / "config.toml").write_text(REQUEST)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    return {"words": [*verb], "prepare": damage, "exit": 4}


def adapter(text: str) -> None:
    Path("adapter").mkdir()
    Path("adapter/adapter_config.json").write_text(text)
    Path("adapter/adapter_model.safetensors").write_bytes(b"")


def model(name: str, content: bytes) -> Callable[[], object]:
    """A model with one file that holds something else."""
    return lambda: (Path("model") / name).write_bytes(content)


def gguf() -> None:
    Path("cut.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\x05" + b"\0" * 7)


def template(text: str) -> Callable[[], object]:
    return lambda: Path("model/chat_template.jinja").write_text(text)


def lines(*rows: object) -> Callable[[], object]:
    text = "".join(f"{json.dumps(each)}\n" for each in rows)
    return lambda: Path("forget.jsonl").write_text(text)


def packed() -> None:
    Path("forget.jsonl.gz").write_bytes(gzip.compress(b"\0" * 3_000_000))


def strange_name() -> None:
    Path("data").mkdir()
    Path(os.fsdecode(b"data/caf\xe9.jsonl")).write_text("{}")


NO_DATA = "data-missing"
MISTAKES = [
    Mistake(what="weights cut off", words=FORGET, code="unreadable-model", exit=4,
            prepare=model("model.safetensors", b"\x90\0\0\0\0\0\0\0{")),
    Mistake(what="empty weights", words=FORGET, code="unreadable-model", exit=4,
            prepare=model("model.safetensors", b"")),
    Mistake(what="a tokenizer that is text", words=PLAN, code="unreadable-model", exit=4,
            prepare=model("tokenizer.json", b"words")),
    Mistake(what="a configuration that is a list", words=PLAN, code="unreadable-model", exit=4,
            prepare=model("config.json", b"[]")),
    Mistake(what="a GGUF file cut off", words=["plan", "cut.gguf", *PLAN[2:]],
            code="unreadable-gguf", exit=4, prepare=gguf),
    Mistake(what="an adapter that is no JSON", words=["plan", "adapter", *PLAN[2:]],
            code="unreadable-model", exit=4, prepare=lambda: adapter("rank 4")),
    Mistake(what="an adapter over itself", words=["plan", "adapter", *PLAN[2:]],
            code="unreadable-model", exit=4, said="this adapter itself",
            prepare=lambda: adapter('{"base_model_name_or_path": "."}')),
    Mistake(what="an empty template", words=PLAN, code="bad-template", exit=4,
            prepare=template("{{ '' }}")),
    Mistake(what="a template without a question", words=PLAN, code="bad-template", exit=4,
            prepare=template("{% for m in messages %}{{ m.role }}{% endfor %}")),
    Mistake(what="a seed beyond 64 bits", words=setting("train.seed", 2**70), code="invalid-value"),
    Mistake(what="a billion days", words=setting("audit.retention_days", 10**9),
            code="invalid-value"),
    Mistake(what="a batch beyond reason", words=setting("train.batch", 10**12),
            code="invalid-value"),
    Mistake(what="steps beyond reason", words=setting("train.steps", 10**15), code="invalid-value"),
    Mistake(what="passes beyond reason", words=setting("train.epochs", 10**15),
            code="invalid-value"),
    Mistake(what="a method that is no class", words=[*PLAN, "--method", "os:system"],
            code="unknown-method", said="os:system is no method"),
    Mistake(what="a method of nothing", words=[*PLAN, "--method", ":X"], code="unknown-method"),
    Mistake(what="a method with a mistake in it", words=[*PLAN, "--method", "broken:X"],
            code="unknown-method", said="ZeroDivisionError",
            prepare=lambda: Path("broken.py").write_text("1 / 0")),
    Mistake(what="a wrapper that is no class", words=setting("robust.name", "os:sep"),
            code="unknown-robust"),
    Mistake(what="a home of nobody", words=["plan", "model", "~nobody-here/x.jsonl", *PLAN[3:]],
            code=NO_DATA, exit=4),
    Mistake(what="a file that begins with a tilde", words=["plan", "model", "~x.jsonl", *PLAN[3:]],
            code=NO_DATA, exit=4),
    Mistake(what="a word that is not UTF-8",
            words=["plan", os.fsdecode(b"caf\xe9"), *PLAN[2:]], code="name-not-utf8"),
    Mistake(what="a file name that is not UTF-8", words=["plan", "model", "data", *PLAN[3:]],
            code="name-not-utf8", exit=4, prepare=strange_name),
    Mistake(what="a record of many megabytes", words=PLAN, code="too-large", exit=4,
            said="forget.jsonl:2", prepare=lines(FACT, {**FACT, "completion": "k" * 3000})),
    Mistake(what="a packed file that fills the memory",
            words=["plan", "model", "forget.jsonl.gz", *PLAN[3:]], code="too-large", exit=4,
            prepare=packed),
    Mistake(what="an out that is no folder", words=[*PLAN, "--save", "forget.jsonl/x.toml"],
            code="no-access", exit=4),
    Mistake(what="a save in a folder that takes none", words=[*PLAN, "--save", "/proc/x/y.toml"],
            code="no-access", exit=4),
    Mistake(what="a name too long", words=[*PLAN, "--save", f"{'x' * 300}.toml"],
            code="no-access", exit=4),
    Mistake(what="junk results", code="not-json", **run("results.json", "{", "report", "run")),
    Mistake(what="results that are a list", code="results-schema",
            **run("results.json", "[]", "report", "run")),
    Mistake(what="junk facts", code="not-json", **run("facts.json", "\0", "report", "run")),
    Mistake(what="junk context", code="evidence-schema",
            **run("evidence/context.json", "{}", "report", "run")),
    Mistake(what="junk items", code="damaged-evidence",
            **run("evidence/items.jsonl", "{", "report", "run")),
    Mistake(what="items of another kind", code="damaged-evidence",
            **run("evidence/items.jsonl", "[1]\n", "report", "run")),
    Mistake(what="an item whose question is a number", code="damaged-evidence",
            **run("evidence/items.jsonl", json.dumps(
                {"record": "r", "split": "forget", "question": 7, "answer": "kozu"}),
                "report", "run")),
    Mistake(what="a context with another goal", code="damaged-evidence",
            **run("evidence/context.json", CONTEXT.replace("removal", "revenge"),
                  "report", "run")),
    Mistake(what="a log nested beyond reason", words=["compat", "log.json"], exit=4,
            code="unreadable-log", prepare=lambda: Path("log.json").write_text("[" * 100_000)),
    Mistake(what="a zero byte in a file", words=["plan", "r.toml"], code="invalid-value",
            prepare=lambda: Path("r.toml").write_text(REQUEST.replace('"model"', r'"m\u0000"'))),
    Mistake(what="blanks for a file of prompts", code="invalid-value",
            words=["plan", "model", "forget.jsonl", "--goal", "removal",
                   "--set", "audit.prompts= "]),
    Mistake(what="blanks for a list of files", code="invalid-value",
            words=["plan", "model", "forget.jsonl", "--goal", "removal",
                   "--set", "request.control= "]),
    Mistake(what="a configuration of no model", code="unreadable-model", exit=4,
            words=["plan", "model", "forget.jsonl", "--goal", "removal"],
            prepare=lambda: Path("model/config.json").write_text(json.dumps(
                json.loads(Path("model/config.json").read_text()) | {"num_key_value_heads": -1}))),
    Mistake(what="a rate without end", code="invalid-value",
            words=["plan", "model", "forget.jsonl", "--goal", "removal", "--set", "train.lr=inf"]),
    Mistake(what="a seed below zero", code="invalid-value",
            words=["bench", "r.toml", "--methods", "npo", "--seeds", "-1"],
            prepare=lambda: Path("r.toml").write_text(REQUEST)),
    Mistake(what="nested beyond reason", code="not-json",
            **run("results.json", "[" * 100_000, "report", "run")),
    Mistake(what="a junk manifest to destroy by", code="not-json",
            **run("manifest.json", "junk", *DESTROY)),
    Mistake(what="a manifest that says nothing", code="no-manifest",
            **run("manifest.json", json.dumps({"schema": SCHEMA}), *DESTROY)),
    Mistake(what="a shared folder that says nothing", code="not-json", exit=4,
            words=["evidence", "show", "shared"],
            prepare=lambda: (Path("shared").mkdir(), Path("shared/store.json").write_text("{}"))),
    Mistake(what="an id with control characters", words=PLAN, code="duplicate-id", exit=4,
            said=r"\x1b]0;owned\x07",
            prepare=lines({**FACT, "id": ESCAPE}, {**FACT, "completion": "x", "id": ESCAPE})),
    Mistake(what="a path with control characters", words=["plan", "model", ESCAPE, *PLAN[3:]],
            code=NO_DATA, exit=4, said=r"\x1b]0;owned"),
]  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("saved") / "model", tiny.llama())


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.what)
def test_a_mistake_is_explained(mistake, saved, bench, capsys, monkeypatch):
    shutil.copytree(saved, "model")
    lines(FACT)()
    monkeypatch.setattr(readers, "LONGEST_RECORD", 2000)
    monkeypatch.setattr(readers, "MOST_UNPACKED", 100_000)
    mistake.prepare()
    code = main(mistake.words)
    said = capsys.readouterr().err
    assert f"error[{mistake.code}]: " in said
    assert code == mistake.exit
    assert mistake.said in said
    assert [line.split(":")[0] for line in said[said.index("error[") :].splitlines()[1:]] == [
        "  why",
        "  fix",
    ]
    assert "\x1b" not in said
    sys.modules.pop("broken", None)


@pytest.mark.parametrize("name", ["manifest.json", "results.json", "facts.json", "config.toml"])
@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\0" * 10])
def test_verify_finds_what_is_junk(name, text, bench, capsys):
    folder = build_run(bench / "run")
    (folder / "run.json").write_text("{}")
    (folder / "manifest.json").write_text('{"schema": "expunge.manifest/2", "files": {}}')
    (folder / name).write_text(text)
    assert main(["verify", "run"]) == 3
    said = capsys.readouterr().err
    assert "error[not-verified]" in said


def test_names_in_a_leaderboard_are_text(tmp_path):
    cell = method("npo", **{"train.lr": "<script>alert(1)</script>|`x`"})
    open_protocol(tmp_path, Protocol(settings=tree()))
    failed = row(method("rmu"), status="failed", why="<img src=x onerror=alert(1)>")
    for each in (row(cell), failed):
        write_row(lay_out(tmp_path, each.cell), each)
    write_pages(tmp_path)
    for name in ("leaderboard.md", "leaderboard.html"):
        page = (tmp_path / name).read_text()
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "&lt;script&gt;" in page or "&lt;script>" in page
