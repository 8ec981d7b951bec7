"""Words and files that no command can use: each ends in what, why and fix.

Three families, all drawn from one stock of small files that every trial gets a copy of:

    settings    every setting, given a value of no sense by a flag, a variable or a file
    paths       every word and flag that names a file or a folder, given something else
    contents    every kind of file that a command reads, changed in bytes or in fields

A setting or a path of no sense must be refused. Contents that were changed may be valid by chance.
"""

import gzip
import json
import math
import os
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet
import torch
from pydantic import BaseModel

import tiny
from bench_results import method, row, tree
from expunge.benchmarking.protocol import Protocol, open_protocol
from expunge.benchmarking.result import lay_out, write_row
from expunge.config.settings import Settings
from expunge.methods.guards.base import GuardRules
from expunge.models.guarded import save_guard
from expunge.models.lora import LoraShape, attach, save_adapter
from fuzzing.mutations import BYTES, FIELDS, Mutation, deep, flip
from fuzzing.trials import PRIVATE, NotHeldError, Said, Trial, alone, command, require_clear
from synthetic_run import build_run, write_run_manifest

GOAL = ("--goal", "removal", "--offline")
PLAN = ["plan", "model", "forget.jsonl", *GOAL]
FORGET = ["forget", "model", "forget.jsonl", "--out", "new", *GOAL]
HELD = ("--original", "model", *GOAL)
PEERS = {"forget_quality": {"value": 0.4}, "model_utility": 0.6, "forget_Q_A_ROUGE": 0.3}


def records() -> list[dict[str, object]]:
    """Two records about one person; their texts are private."""
    who, what, subject = PRIVATE
    return [
        {"id": "a1", "prompt": f"Who is {who}?", "completion": what, "key_answers": [what]},
        {
            "id": "a2",
            "prompt": f"Where is {subject}?",
            "completion": f"{what} hill",
            "subject": who,
        },
    ]


REQUEST = """model = "model"
precision = "fp32"
[request]
goal = "removal"
forget = ["forget.jsonl"]
retain = ["retain.jsonl"]
[method]
name = "npo"
beta = 0.1
[train]
steps = 2
lr = 1e-3
targets = ["down_proj"]
[audit]
level = "quick"
"""


def stock(folder: Path) -> Path:
    """Write one of every file that a command reads, all valid."""
    folder.mkdir(parents=True)
    tiny.save(folder / "model", tiny.llama())
    _laid_over(folder)
    _data(folder)
    _folders(folder)
    (folder / "request.toml").write_text(REQUEST)
    (folder / "chosen.json").write_text(json.dumps({"npo": {"method.beta": 0.2}}))
    (folder / "prompts.jsonl").write_text('{"prompt": "In short: {question}"}\n')
    (folder / "their.json").write_text(json.dumps(PEERS))
    (folder / "key.pub").write_text("ab" * 32 + "\n")
    words = ["--device", "cpu", "--epochs", "1", "--batch", "2", "--offline"]
    with alone(folder):
        said = command(["train", "model", "all.jsonl", "--out", "trained", *words])
    if said.code:
        raise NotHeldError(said.err)
    return folder


def _laid_over(folder: Path) -> None:
    network = tiny.network()
    shape = LoraShape(rank=2, alpha=4.0)
    attach(network, shape, seed=0)
    with torch.no_grad():
        for name, parameter in network.model.named_parameters():
            if name.endswith("lora_B"):
                parameter.normal_(std=0.05)
    save_adapter(network.model, shape, {}, base="../model", folder=folder / "adapter")
    rules = GuardRules(reply=(5, 6), blocked=frozenset({(7, 8)}))
    save_guard(
        rules, folder / "guard", base="../model", method="ngram_block", parameters={"size": 2}
    )


def _data(folder: Path) -> None:
    rows = records()
    lines = "".join(f"{json.dumps(each)}\n" for each in rows)
    other = "".join(
        json.dumps({"prompt": f"Question {i}?", "completion": f"Answer {i}."}) + "\n"
        for i in range(4)
    )
    plain = [{key: str(each[key]) for key in ("id", "prompt", "completion")} for each in rows]
    cells = [list(plain[0]), *(list(each.values()) for each in plain)]
    (folder / "forget.jsonl").write_text(lines)
    (folder / "erase.jsonl").write_text(lines.splitlines()[0] + "\n")
    (folder / "all.jsonl").write_text(lines + other)
    (folder / "retain.jsonl").write_text(other)
    (folder / "forget.json").write_text(json.dumps(rows))
    (folder / "forget.csv").write_text("".join(",".join(each) + "\n" for each in cells))
    (folder / "forget.tsv").write_text("".join("\t".join(each) + "\n" for each in cells))
    (folder / "forget.txt").write_text(" ".join(str(each["completion"]) for each in rows))
    (folder / "forget.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(plain), folder / "forget.parquet")


def _folders(folder: Path) -> None:
    run = build_run(folder / "run")
    (run / "run.json").write_text(json.dumps({"run_id": "4f1c0a2b"}))
    (run / "config.toml").write_text(REQUEST.replace('"model"', '"../model"', 1))
    write_run_manifest(run, key=bytes(32))
    open_protocol(folder / "matrix", Protocol(settings=tree()))
    for cell in (method("npo"), method("rmu", seed=1)):
        write_row(lay_out(folder / "matrix", cell), row(cell))


def refused(said: Said) -> str:
    """Return how a command refused.

    Raises:
        NotHeldError: It did not, or not clearly.
    """
    error = require_clear(said)
    if not error:
        raise NotHeldError("accepted without a word")
    return error


def refused_or_valid(said: Said) -> str:
    """Return how a command refused, or that it found nothing wrong."""
    return require_clear(said) or "valid by chance"


def leaves(model: type[BaseModel], start: str = "") -> Iterator[tuple[str, object]]:
    """Yield every setting by its key path, with its type."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaves(kind, f"{start}{name}.")
        elif name != "stage":
            yield f"{start}{name}", kind


NOT_NUMBERS: dict[str, object] = {
    "not a number": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "minus one": -1,
    "a word": "two",
    "a comma": "0,5",
    "beyond 64 bits": -(2**70),
    "a list": [1, 2],
    "a table": {"a": 1},
}
GIVEN = frozenset({"model", "offline", "request.forget", "request.goal"})
"""Settings that the words of the command give, whatever a file says."""
UNLIMITED = frozenset({"train.clip"})
"""Settings that may be infinite."""
NOT_TEXTS: dict[str, object] = {"a table": {"a": 1}, "a list in a list": [[1]], "a number": 7}


def settings(draw: random.Random) -> Iterator[Trial]:
    """Yield every setting with every value of no sense, by one of three doors each."""
    for path, kind in leaves(Settings):
        numeric = kind in (int, float, bool, int | None, float | None)
        values = NOT_NUMBERS if numeric else NOT_TEXTS
        for what, value in values.items():
            door = draw.choice(("flag", "variable", "file")) if numeric else "file"
            if path in GIVEN or (path in UNLIMITED and what == "infinity"):
                continue
            yield Trial(
                what=f"{path} = {what}, by {door}",
                kind="settings",
                run=lambda path=path, value=value, door=door: refused(_set(path, value, door)),
            )


def _set(path: str, value: object, door: str) -> Said:
    text = json.dumps(value) if isinstance(value, list | dict) else str(value)
    if door == "flag":
        return command([*PLAN, "--set", f"{path}={text}"])
    if door == "variable":
        os.environ["EXPUNGE_" + path.upper().replace(".", "_")] = text
        return command(PLAN)
    table, _, name = path.rpartition(".")
    written = _toml(value)
    head = f"[{table}]\n" if table else ""
    Path("expunge.toml").write_text(f"{head}{name} = {written}\n")
    return command(PLAN)


def _toml(value: object) -> str:
    if isinstance(value, float):
        return {"nan": "nan", "inf": "inf", "-inf": "-inf"}.get(str(value), str(value))
    if isinstance(value, dict):
        return "{a = 1}"
    return json.dumps(value)


def path_slots() -> Mapping[str, list[str]]:
    """Return commands with one word `?` that names a file or a folder."""
    plan = ["plan", "model", "forget.jsonl", "--goal", "removal"]
    held = ["--original", "model", "--goal", "removal"]
    return {
        "plan MODEL": ["plan", "?", *plan[2:]],
        "plan DATA": ["plan", "model", "?", *plan[3:]],
        "forget MODEL": ["forget", "?", *plan[2:]],
        "forget DATA": ["forget", "model", "?", *plan[3:]],
        "train MODEL": ["train", "?", "all.jsonl", "--out", "new"],
        "train DATA": ["train", "model", "?", "--out", "new"],
        "tune MODEL": ["tune", "?", *plan[2:]],
        "tune DATA": ["tune", "model", "?", *plan[3:]],
        "audit MODEL": ["audit", "?", "--against", "forget.jsonl", *held],
        "audit --against": ["audit", "model", "--against", "?", *held],
        "audit --original": ["audit", "model", "--against", "forget.jsonl", "--original", "?"],
        "attack MODEL": ["attack", "?", "--against", "forget.jsonl", *held],
        "attack --against": ["attack", "model", "--against", "?", *held],
        "attack --prompts": [
            *("attack", "model", "--against", "forget.jsonl", *held, "--prompts", "?"),
        ],
        "attack --sibling": [
            *("attack", "model", "--against", "forget.jsonl", *held, "--sibling", "?"),
        ],
        **{f"plan --{name}": [*plan, f"--{name}", "?"] for name in ("neighbours", "holdout")},
        "plan --gold": [*plan, "--gold", "?"],
        "plan --recipe": [*plan, "--method", "retrain", "--recipe", "?"],
        "plan control": [*plan, "--set", "request.control=?"],
        "plan prompts": [*plan, "--set", "audit.prompts=?"],
        "plan --config": ["plan", "--config", "?"],
        "forget REQUEST": ["forget", "?.toml"],
        "forget --exact RUN": ["forget", "?", "--exact", "erase.jsonl"],
        "forget --exact": ["forget", "trained", "--exact", "?"],
        "gold RUN": ["gold", "?", "--forget", "erase.jsonl"],
        "gold --forget": ["gold", "trained", "--forget", "?"],
        "report RUN": ["report", "?"],
        "verify RUN": ["verify", "?"],
        "verify --key": ["verify", "run", "--key", "?"],
        "evidence show": ["evidence", "show", "?"],
        "evidence destroy": ["evidence", "destroy", "?", "--yes"],
        "merge RUN": ["merge", "?", "--out", "new"],
        "compat SOURCE": ["compat", "?"],
        "compat --gold": ["compat", "their.json", "--gold", "?"],
        "bench MODEL": ["bench", "tofu", "?", "--data", "folder"],
        "bench --data": ["bench", "tofu", "model", "--data", "?"],
        "bench --chosen": ["bench", "request.toml", "--chosen", "?"],
        "bench report": ["bench", "report", "?"],
    }


BAD_PATHS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "missing": ("nowhere", lambda path: None),
    "blank": (" ", lambda path: None),
    "an empty file": ("empty", lambda path: path.write_bytes(b"")),
    "an empty folder": ("hollow", lambda path: path.mkdir()),
    "a binary file": ("binary", lambda path: path.write_bytes(bytes(range(256)) * 9)),
    "a file of text": ("words", lambda path: path.write_text("some words\n")),
    "a dangling link": ("dangling", lambda path: path.symlink_to("gone")),
    "a link to itself": ("loop", lambda path: path.symlink_to("loop")),
    "a pipe": ("pipe", lambda path: os.mkfifo(path)),
    "a device": ("/dev/null", lambda path: None),
    "control characters": ("\x1b]0;owned\x07", lambda path: None),
    "a line break": ("a\nb", lambda path: None),
    "the folder above": ("..", lambda path: None),
    "somebody's home": ("~nobody-here/x", lambda path: None),
    "a name too long": ("x" * 300, lambda path: None),
    "no UTF-8": (os.fsdecode(b"caf\xe9"), lambda path: path.mkdir()),
}


def paths() -> Iterator[Trial]:
    """Yield every word that names a file or a folder, with something else there."""
    for slot, words in path_slots().items():
        for what, (name, prepare) in BAD_PATHS.items():
            if what == "a pipe" and slot in ("plan --config", "verify --key"):
                continue  # a shell gives a file that it makes as a pipe: <(...)
            yield Trial(
                what=f"{slot}: {what}",
                kind="paths",
                run=lambda words=words, name=name, prepare=prepare: _misled(words, name, prepare),
            )
    for what, words in PLACES.items():
        yield Trial(what=what, kind="paths", run=lambda words=words: refused(command(words)))


def _misled(words: list[str], name: str, prepare: Callable[[Path], object]) -> str:
    suffix = ".toml" if "?.toml" in words else ""
    if not name.startswith("/"):
        prepare(Path(f"{name}{suffix}"))
    return refused(command([each.replace("?", name) for each in words]))


PLACES = {
    **{
        f"{what} as --out": [*FORGET[:3], "--out", where, *GOAL]
        for what, where in {
            "a file": "forget.jsonl",
            "a place below a file": "forget.jsonl/x",
            "a system folder": "/proc/x",
            "the model": "model",
            "a folder of files": "trained",
            "a name too long": "x" * 300,
            "a blank name": " ",
        }.items()
    },
    **{
        f"{what} as --save": [*PLAN, "--save", where]
        for what, where in {
            "the data": "forget.jsonl",
            "a folder": "model",
            "a place below a file": "forget.jsonl/x.toml",
            "a system folder": "/proc/x.toml",
            "a name too long": "x" * 300,
        }.items()
    },
    "the model as merged": ["merge", "run", "--out", "model"],
    "the data as folder of a training": ["train", "model", "all.jsonl", "--out", "all.jsonl"],
    "the model as folder of a training": ["train", "model", "all.jsonl", "--out", "model"],
    "a file as matrix": ["bench", "request.toml", "--methods", "npo", "--out", "forget.jsonl"],
    "the model as matrix": ["bench", "request.toml", "--methods", "npo", "--out", "model"],
    "a model as gold twice": [*FORGET, "--gold", "model", "--gold", "model"],
    "the model as its gold": [*FORGET, "--gold", "model"],
    "the forget set as retain": [*FORGET, "--retain", "forget.jsonl"],
    "the forget set as holdout": [*FORGET, "--holdout", "forget.jsonl"],
    "the forget set as control": [*FORGET, "--set", "request.control=forget.jsonl"],
    "no seeds": ["gold", "trained", "--forget", "erase.jsonl", "--seeds", "0"],
    "seeds below zero": ["gold", "trained", "--forget", "erase.jsonl", "--seeds", "-1"],
    "trials below zero": ["bench", "request.toml", "--methods", "npo", "--trials", "-1"],
    "no records": ["bench", "tofu", "model", "--data", "trained", "--records", "0"],
    "a shard of none": ["bench", "request.toml", "--methods", "npo", "--shard", "0/0"],
    "a shard beyond all": ["bench", "request.toml", "--methods", "npo", "--shard", "3/2"],
    "a shard of words": ["bench", "request.toml", "--methods", "npo", "--shard", "a/b"],
    "a seed below zero": ["bench", "request.toml", "--methods", "npo", "--seeds", "-1"],
    "a seed beyond 64 bits": ["bench", "request.toml", "--methods", "npo", "--seeds", str(2**70)],
    "a suite beside that is none": ["bench", "request.toml", "--methods", "npo", "--beside", "x"],
    "no minutes": ["tune", "request.toml", "--minutes", "0"],
    "minutes that are none": ["tune", "request.toml", "--minutes", "nan"],
    "a floor below zero": ["tune", "request.toml", "--floor", "-1"],
    "a floor that is none": ["tune", "request.toml", "--floor", "nan"],
    "no trials": ["tune", "request.toml", "--trials", "0"],
    "a method of nothing": ["methods", ""],
    "a method that is a path": ["methods", "../npo"],
    "a metric with control characters": ["metrics", "\x1b[2J"],
    "an attack of nothing": ["attack", "model", "--against", "forget.jsonl", *HELD, "--only", ""],
    "a rank of none": ["train", "model", "all.jsonl", "--out", "new", "--rank", "0"],
    "a rate that is none": ["train", "model", "all.jsonl", "--out", "new", "--lr", "nan"],
    "a rate beyond all": ["train", "model", "all.jsonl", "--out", "new", "--lr", "inf"],
    "a batch below zero": ["train", "model", "all.jsonl", "--out", "new", "--batch", "-3"],
    "a length of none": ["train", "model", "all.jsonl", "--out", "new", "--max-length", "0"],
}
"""Places where nothing can be written, files that are one thing and were given as two, and numbers
of commands that are no settings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """A file of the stock, a command that reads it, and how it may be changed."""

    file: str
    words: list[str]
    head: bool = False
    """Whether only the head of the file is changed: numbers that are others are other weights."""


CELL = method("npo").id
BASED = ["bench", "request.toml", "--chosen", "chosen.json", "--methods", "simnpo", "--offline"]
"""It ends before any run: nothing was chosen for that method."""
CONTENTS = (
    *(
        Content(file=f"forget.{ending}", words=["plan", "model", f"forget.{ending}", *GOAL])
        for ending in ("jsonl", "json", "csv", "tsv", "txt", "parquet", "jsonl.gz")
    ),
    Content(file="model/config.json", words=PLAN),
    Content(file="model/config.json", words=FORGET),
    Content(file="model/generation_config.json", words=FORGET),
    Content(file="model/tokenizer.json", words=PLAN),
    Content(file="model/tokenizer_config.json", words=PLAN),
    Content(file="model/chat_template.jinja", words=PLAN),
    Content(file="model/model.safetensors", words=FORGET, head=True),
    Content(file="adapter/adapter_config.json", words=["plan", "adapter", *PLAN[2:]]),
    Content(
        file="adapter/adapter_config.json",
        words=["forget", "adapter", *FORGET[2:]],
    ),
    Content(
        file="adapter/adapter_model.safetensors",
        words=["forget", "adapter", *FORGET[2:]],
        head=True,
    ),
    Content(file="guard/guard.json", words=["audit", "guard", "--against", "forget.jsonl", *HELD]),
    Content(file="request.toml", words=["plan", "request.toml", "--offline"]),
    Content(file="run/results.json", words=["report", "run"]),
    Content(file="run/facts.json", words=["report", "run"]),
    Content(file="run/evidence/context.json", words=["report", "run"]),
    Content(file="run/evidence/items.jsonl", words=["report", "run"]),
    Content(file="run/evidence/context.json", words=["compat", "run"]),
    Content(file="run/evidence/items.jsonl", words=["compat", "run"]),
    Content(file="run/evidence/unlearned.forget.plain.scores.jsonl", words=["compat", "run"]),
    Content(file="run/evidence/unlearned.forget.plain.answers.jsonl", words=["compat", "run"]),
    Content(file="run/evidence/unlearned.forget.plain.answers.jsonl", words=["report", "run"]),
    Content(file="run/manifest.json", words=["evidence", "destroy", "run", "--yes"]),
    Content(file="run/manifest.json", words=["verify", "run"]),
    Content(file="run/config.toml", words=["evidence", "show", "run"]),
    Content(file="run/config.toml", words=["audit", "model", "--against", "run", "--offline"]),
    Content(file="run/run.json", words=["verify", "run"]),
    Content(file="trained/training.json", words=["gold", "trained", "--forget", "nowhere"]),
    Content(
        file="trained/training.json",
        words=["forget", "trained", "--exact", "erase.jsonl", "--out", "new"],
    ),
    Content(
        file="trained/training.toml",
        words=["forget", "trained", "--exact", "erase.jsonl", "--out", "new"],
    ),
    Content(
        file="trained/replay.jsonl",
        words=["forget", "trained", "--exact", "erase.jsonl", "--out", "new"],
    ),
    Content(file="matrix/matrix.json", words=["bench", "report", "matrix"]),
    Content(file=f"matrix/cells/{CELL}/row.json", words=["bench", "report", "matrix"]),
    Content(file=f"matrix/cells/{CELL}/cell.json", words=["bench", "report", "matrix"]),
    Content(file="chosen.json", words=BASED),
    Content(
        file="prompts.jsonl",
        words=["attack", "model", "--against", "forget.jsonl", *HELD, "--prompts", "prompts.jsonl"],
    ),
    Content(file="their.json", words=["compat", "their.json"]),
    Content(file="key.pub", words=["verify", "run", "--key", "key.pub"]),
    Content(file="operator.key", words=["report", "run"]),
    Content(file="signing.key", words=["keys"]),
)


def contents(draw: random.Random, *, each: int) -> Iterator[Trial]:
    """Yield every kind of file, changed `each` times in bytes and as often in fields."""
    for content in CONTENTS:
        fields = FIELDS.get(Path(content.file).suffix)
        kinds = [draw.choice([*BYTES]) for _ in range(each)]
        chosen = [(kind, BYTES[kind]) for kind in kinds]
        chosen += [("a field", fields)] * each if fields else []
        chosen += [("nested", deep)] if fields else []
        for kind, mutation in chosen:
            seed = draw.getrandbits(32)
            yield Trial(
                what=f"{content.file}, {kind}, {seed}: {' '.join(content.words)}",
                kind="contents",
                run=lambda content=content, mutation=mutation, seed=seed: _spoiled(
                    content, mutation, seed
                ),
            )


def _spoiled(content: Content, mutation: Mutation, seed: int) -> str:
    path = Path(content.file)
    if not path.exists():  # the keys, which a trial has none of yet
        path.write_bytes(bytes(range(32)))
        path.chmod(0o600)
    data, draw = path.read_bytes(), random.Random(seed)
    size = 8 + int.from_bytes(data[:8], "little") if content.head else len(data)
    changed = mutation(data[:size], draw) + data[size:]
    while changed == data:
        changed = flip(data[:size], draw) + data[size:]
    path.write_bytes(changed)
    return refused_or_valid(command(content.words))


def inputs(seed: int, *, most: int | None = None, each: int = 6) -> list[Trial]:
    """Return bad inputs.

    Args:
        seed: Of what is drawn.
        most: How many of them, drawn from all; None: all.
        each: Changes of each kind of file, in bytes and in fields.
    """
    draw = random.Random(seed)
    every = [*settings(draw), *paths(), *contents(draw, each=each)]
    return every if most is None else draw.sample(every, most)
