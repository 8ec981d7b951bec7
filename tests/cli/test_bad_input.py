"""What users get wrong, and what they are then told."""

import errno
import json
import os
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import expunge
import tiny
from expunge.cli import main
from expunge.errors import ResourceError
from expunge.models.saving import save_model
from expunge.training.forward import TermEvaluator
from tiny_world import World, fact


@pytest.fixture(autouse=True)
def own_environment(bench, monkeypatch):
    """The command line sets variables for the libraries it loads: not for the tests after."""
    monkeypatch.setattr(os, "environ", dict(os.environ))


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    what: str
    words: Callable[[World, Path], list[str]]
    exit: int
    code: str
    said: tuple[str, ...]


def lines(name: str, *rows: object) -> str:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    Path(name).write_text(text, encoding="utf-8")
    return name


def forgetting(world: World, data: str, *words: str) -> list[str]:
    whole = world.command(*words, **{"train.steps": "2"})
    return [data if word == world.data("forget") else word for word in whole]


def latin(world: World, bench: Path) -> list[str]:
    Path("latin.jsonl").write_bytes('{"text": "Müller"}\n'.encode("latin-1"))
    return forgetting(world, "latin.jsonl")


def overlap(world: World, bench: Path) -> list[str]:
    lines("both.jsonl", {**world.rows("retain")[0], "id": "x7"}, *world.rows("forget")[1:])
    return forgetting(world, "both.jsonl")


def occupied(world: World, bench: Path) -> list[str]:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    return world.command("--out", "mine")


def poisoned(world: World, bench: Path) -> list[str]:
    for path in Path(world.original).iterdir():
        Path("nan").mkdir(exist_ok=True)
        (Path("nan") / path.name).write_bytes(path.read_bytes())
    weights = load_file("nan/model.safetensors")
    weights["model.layers.0.mlp.down_proj.weight"][0, 0] = float("nan")
    save_file(weights, "nan/model.safetensors", metadata={"format": "pt"})
    return ["nan" if word == world.original else word for word in world.command()]


def unknown() -> list[dict]:
    names = random.Random(3)
    facts = [fact("control", index, names) for index in range(20, 32)]
    return [{**row, "id": f"u{index}"} for index, row in enumerate(facts)]


FACT = {"prompt": "Who is it?", "completion": "kozu"}
MISTAKES = [
    Mistake(
        what="an empty set",
        words=lambda world, bench: forgetting(world, lines("empty.jsonl")),
        exit=4,
        code="empty-data",
        said=("no records in empty.jsonl",),
    ),
    Mistake(
        what="a missing field",
        words=lambda world, bench: forgetting(
            world, lines("half.jsonl", FACT, {"prompt": "Jo Xuki?"})
        ),
        exit=4,
        code="missing-field",
        said=("half.jsonl:2", "completion"),
    ),
    Mistake(
        what="invalid JSON",
        words=lambda world, bench: forgetting(world, lines("bad.jsonl", FACT, '{"prompt": Jo')),
        exit=4,
        code="invalid-json",
        said=("bad.jsonl:2", "not valid JSON"),
    ),
    Mistake(
        what="another encoding",
        words=latin,
        exit=4,
        code="not-utf8",
        said=("latin.jsonl", "iconv -f latin1 -t utf-8"),
    ),
    Mistake(
        what="no such file",
        words=lambda world, bench: forgetting(world, "secrets.jsonl"),
        exit=4,
        code="data-missing",
        said=("no file or folder secrets.jsonl",),
    ),
    Mistake(
        what="an unknown method",
        words=lambda world, bench: world.command("--method", "nop"),
        exit=2,
        code="unknown-method",
        said=("there is no method nop", "did you mean npo?"),
    ),
    Mistake(
        what="an unknown key",
        words=lambda world, bench: world.command("--set", "train.step=4"),
        exit=2,
        code="unknown-key",
        said=("unknown setting `train.step`", "did you mean `train.steps`?"),
    ),
    Mistake(
        what="no goal",
        words=lambda world, bench: ["forget", world.original, world.data("forget")],
        exit=2,
        code="no-goal",
        said=("removal, suppression and edit",),
    ),
    Mistake(
        what="a model that is not here",
        words=lambda world, bench: [
            "someone/absent" if word == world.original else word for word in world.command()
        ],
        exit=4,
        code="model-offline",
        said=("someone/absent is not on this machine and the network is off",),
    ),
    Mistake(
        what="a set that the model does not know",
        words=lambda world, bench: forgetting(world, lines("unknown.jsonl", *unknown())),
        exit=4,
        code="nothing-to-forget",
        said=("does not measurably know the forget set", "states 0 of 12 facts"),
    ),
    Mistake(
        what="to be both forgotten and kept",
        words=overlap,
        exit=4,
        code="overlap",
        said=("both.jsonl:1 (id x7) = ", "retain.jsonl:1 (id r0)"),
    ),
    Mistake(
        what="a folder with something in it",
        words=occupied,
        exit=2,
        code="folder-in-use",
        said=("mine cannot be the folder of this run; nothing was changed there",),
    ),
    Mistake(
        what="weights that are not numbers",
        words=poisoned,
        exit=4,
        code="not-a-number",
        said=("weights of nan are not numbers", "the weights hold NaN"),
    ),
    Mistake(
        what="a refusal from a method that teaches none",
        words=lambda world, bench: world.command("--set", "request.response=refusal"),
        exit=2,
        code="response-not-taught",
        said=("method npo cannot teach the response refusal",),
    ),
    Mistake(
        what="no alternative to say",
        words=lambda world, bench: world.command(
            "--method", "dpo", "--set", "request.response=alternative"
        ),
        exit=2,
        code="no-alternative",
        said=("12 forget records have no alternative: f0 (",),
    ),
    Mistake(
        what="a record that is too long",
        words=lambda world, bench: forgetting(
            world, lines("long.jsonl", {**FACT, "id": "x7", "completion": "kozu " * 200})
        ),
        exit=4,
        code="too-long",
        said=("record x7 (long.jsonl:1) has", "set train.max_length to"),
    ),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.what)
def test_a_mistake_is_explained_in_three_lines(world, bench, capsys, mistake):
    words = mistake.words(world, bench)
    assert main(words) == mistake.exit
    said = capsys.readouterr().err
    assert "Traceback" not in said
    errors = said[said.index("error[") :].splitlines()
    assert errors[0].startswith(f"error[{mistake.code}]: ")
    assert [line.split(":")[0] for line in errors[1:]] == ["  why", "  fix"]
    for text in mistake.said:
        assert text in said
    for private in ("kozu", "Jo Xuki", "Müller", *world.texts()):
        assert private not in said


def test_a_folder_of_the_user_stays_as_it_is(world, bench):
    assert main(occupied(world, bench)) == 2
    assert [path.name for path in Path("mine").iterdir()] == ["thesis.txt"]
    assert Path("mine/thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SafetensorError("I/O error: No space left (os error 28)"), "error[disk-full]"),
        (Exception("Disk quota exceeded (os error 122)"), "error[disk-full]"),
        (OSError(errno.ENOSPC, "No space left on device"), "error[disk-full]"),
        (SafetensorError("header too large"), "header too large"),
        (OSError(errno.EACCES, "Permission denied"), "Permission denied"),
    ],
)
def test_weights_that_find_no_space_are_no_bug(error, expected, tmp_path, monkeypatch):
    model = tiny.llama()

    def full(_folder):
        raise error

    monkeypatch.setattr(model, "save_pretrained", full)
    with pytest.raises(Exception, match=re.escape(expected)) as caught:
        save_model(model, tiny.tokenizer(), tmp_path / "out")
    assert isinstance(caught.value, ResourceError) is expected.startswith("error")
    assert not (tmp_path / "out" / ".staging").exists()


def test_the_original_is_no_gold(world, bench, capsys):
    words = forgetting(world, world.data("forget"), "--gold", world.original)
    assert main(words) == 4
    assert "error[gold-is-original]" in capsys.readouterr().err


def test_a_full_disk_keeps_what_was_written(world, bench, capsys, monkeypatch):
    words, written = forgetting(world, world.data("forget"), "--out", "run"), []
    sync = os.fsync

    def full(handle):
        if len(written) == 40:  # each file is synced, and its folder
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(handle)
        sync(handle)

    monkeypatch.setattr("expunge.utils.io.os.fsync", full)
    assert main(words) == 5
    said = capsys.readouterr().err
    assert "error[disk-full]: no space left while writing run/" in said
    assert "run the same command again: it resumes" in said
    assert "Traceback" not in said
    kept = {path: path.read_bytes() for path in Path("run/evidence").iterdir()}
    assert len(kept) >= 10
    assert not any(path.name.startswith(".") for path in kept)
    monkeypatch.setattr("expunge.utils.io.os.fsync", sync)
    assert main(words) == 0
    changed = {p.name for p, content in kept.items() if p.read_bytes() != content}
    added = {"original.forget.plain.answers.jsonl", "context.json"}
    assert changed <= added, "fluency, and which weights the unlearned model has"
    assert expunge.verify(Path("run")).ok


def test_little_memory_means_smaller_parts(world, bench, monkeypatch):
    sizes, whole = [], TermEvaluator._micro_batch

    def cramped(self, terms, items, *rest):
        tokens = sum(len(record.ids) for item in items for record in item.records)
        if tokens > 150:
            raise torch.OutOfMemoryError("out of memory")
        sizes.append(tokens)
        return whole(self, terms, items, *rest)

    monkeypatch.setattr(TermEvaluator, "_micro_batch", cramped)
    assert main(forgetting(world, world.data("forget"), "--out", "run")) == 0
    assert len(sizes) > 4
    assert expunge.verify(Path("run")).ok


def test_too_little_memory_ends_with_what_was_done_kept(world, bench, capsys, monkeypatch):
    def never(self, *given):
        raise torch.OutOfMemoryError("out of memory")

    words = forgetting(world, world.data("forget"), "--out", "run")
    with monkeypatch.context() as patch:
        patch.setattr(TermEvaluator, "_micro_batch", never)
        assert main(words) == 5
    said = capsys.readouterr().err
    assert "error[out-of-memory]: one record of" in said
    assert "Traceback" not in said
    kept = {path: path.stat().st_mtime_ns for path in Path("run/evidence").glob("original.*")}
    assert len(kept) >= 10
    assert main(words) == 0
    rewritten = {p.name for p, time in kept.items() if p.stat().st_mtime_ns != time}
    assert rewritten <= {"original.forget.plain.answers.jsonl"}


def test_a_rate_that_diverges_stops_at_the_last_good_state(world, bench, capsys):
    words = world.command("--out", "run", **{"train.lr": "1e6", "train.check_every": "1"})
    assert main(words) == 0
    facts = json.loads(Path("run/facts.json").read_text())
    assert "kept step 0" in facts["train"]["stopped"]
    weights = load_file("run/model/model.safetensors")
    assert all(bool(torch.isfinite(weight).all()) for weight in weights.values())
    assert "Traceback" not in capsys.readouterr().err
