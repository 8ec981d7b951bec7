"""Models and data by their Hub id: the real libraries, in other processes, and a Hub of our own."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow
import pytest
from peft import LoraConfig, get_peft_model
from pyarrow import parquet

import tiny
from expunge.bench.suite import Spec, plain
from expunge.bench.suites import HUB, load_suite
from expunge.data.read import read_rows
from hub import Hub

TESTS = Path(__file__).resolve().parent
DATA = TESTS.parents[1] / "shared" / "data"
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="the benchmark data do not lie beside the checkout"
)
FOLDERS = {"tofu": "tofu", "muse": "muse/news", "wmdp": "wmdp"}
FACTS = [{"question": f"What is {n} and {n}?", "answer": f"It is {2 * n}."} for n in range(12)]
PLAN = ["plan", "tiny/llama", "own/facts/sums:test[:4]", "--goal", "removal", "--retain"]
KEPT = "own/facts/sums"

COMMANDS = """
import contextlib, io, json, sys, time
from expunge.cli import main
time.sleep = lambda seconds: None  # the libraries wait half a minute in all for a server
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""
"""Several commands in one process, which loads the libraries once."""
SUITES = """
import json, sys
from expunge.bench.suite import Spec
from test_hub import told_by
for given in json.loads(sys.argv[1]):
    print(json.dumps(told_by(Spec(**given))))
"""
MODELS = """
import json, sys
from test_hub import digests
for reference in json.loads(sys.argv[1]):
    print(json.dumps(digests(reference)))
"""


def told_by(spec):
    """How many records each set of a suite has, and what they say."""
    suite = load_suite(spec)
    sets = {"forget": suite.forget, "retain": suite.retain, "holdout": suite.holdout}
    sets |= {f"asked as {probe.name}": probe.records for probe in suite.probes}
    rows = {name: json.dumps([plain(each) for each in found]) for name, found in sets.items()}
    return {name: [len(sets[name]), _digest(row)] for name, row in rows.items()}


def digests(reference):
    """What a model's files, or their commit, and its weights are known by."""
    import torch

    from expunge.model.load import Source, files_digest, load

    source = Source(device=torch.device("cpu"), dtype=torch.float32)
    return [files_digest(reference, source), load(reference, source).digest]


def _digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def _card(folder, files):
    """Write a data set's card, as the Hub has them: which files make a split of which table."""
    lines = ["---", "license: mit", "configs:"]
    for config, splits in files.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        for split, path in splits.items():
            lines += [f"  - split: {split}", f"    path: {path}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", "# Card", ""]), encoding="utf-8")
    return folder


def _tables(folder, files):
    """Write a data set whose tables are Parquet, from files by config and split."""
    for config, splits in files.items():
        (folder / config).mkdir(parents=True)
        for split, path in splits.items():
            rows = [row.value for row in read_rows(str(path))]
            rows = [{"text": row} if isinstance(row, str) else row for row in rows]
            place = folder / config / f"{split}-00000-of-00001.parquet"
            parquet.write_table(pyarrow.Table.from_pylist(rows), place)
    return _card(folder, {c: {s: f"{c}/{s}-*" for s in splits} for c, splits in files.items()})


def _published(folder):
    """The benchmarks' data sets, in the layout that their authors gave them on the Hub."""
    tofu = folder / "tofu"
    tofu.mkdir()
    for path in (DATA / "tofu").glob("*.json"):
        (tofu / path.name).symlink_to(path)
    news = {}
    for path in sorted((DATA / "muse" / "news").glob("*/*.json*")):
        news.setdefault(path.parent.name, {})[path.name.partition(".")[0]] = path
    questions = {
        f"wmdp-{path.name.partition('-')[0]}": {"test": path}
        for path in (DATA / "wmdp").glob("*-questions.json*")
    }
    return {
        HUB["tofu"]: _card(tofu, {p.stem: {"train": p.name} for p in sorted(tofu.glob("*.json"))}),
        HUB["muse"]: _tables(folder / "muse", news),
        HUB["wmdp"]: _tables(folder / "wmdp", questions),
    }


def _own(folder, name, **files):
    """A data set of some files, named with __ for the point."""
    place = folder / name
    place.mkdir()
    for file, text in files.items():
        (place / file.replace("__", ".")).write_text(text, encoding="utf-8")
    return place


def _lines(rows):
    return "".join(f"{json.dumps(row)}\n" for row in rows)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    facts = _own(folder, "facts", a__jsonl=_lines(FACTS[:4]), b__jsonl=_lines(FACTS[4:]))
    _card(facts, {"sums": {"test": "a.jsonl", "train": "b.jsonl"}, "more": {"train": "b.jsonl"}})
    secret = _own(folder, "secret", train__jsonl=_lines(FACTS))
    data = {
        "own/facts": facts,
        "own/secret": secret,
        "own/failing": secret,
        "own/script": _own(folder, "script", script__py="import datasets\n"),
        "own/broken": _own(folder, "broken", train__jsonl='{"text": "Ada"}\n{"text": "Ada\n'),
        "own/empty": _own(folder, "empty", README__md="Nothing yet.\n"),
        **(_published(folder) if DATA.is_dir() else {}),
    }
    model = tiny.llama()
    model.config.max_position_embeddings = 2048
    models = {name: tiny.save(folder / "llama", model) for name in ("llama", "secret", "failing")}
    repositories = {
        **{f"datasets/{name}": place for name, place in data.items()},
        **{f"models/tiny/{name}": place for name, place in models.items()},
    }
    gated, failing = (
        (f"datasets/own/{name}", f"models/tiny/{name}") for name in ("secret", "failing")
    )
    with Hub(repositories, gated=gated, failing=failing) as served:
        yield served


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The user's caches, empty at first and shared by the tests."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def run(hub, home, tmp_path):
    """Run Python in another process, as a user who has that Hub for the only one."""

    def in_process(words: Sequence[str], **given: str):
        ours = ("HF_", "EXPUNGE_", "TRANSFORMERS_", "DATASETS_")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        environment |= {
            "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)]),
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(home / "huggingface"),
            "EXPUNGE_CACHE": str(home / "expunge"),
            "EXPUNGE_KEY_FILE": str(home / "key"),
            "HTTP_PROXY": hub.endpoint,  # so that it is told of what goes to other places
            "HTTPS_PROXY": hub.endpoint,
            "NO_PROXY": "127.0.0.1",
            **given,
        }
        return subprocess.run(
            [sys.executable, *words],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return in_process


def several(run, script, asked, **given):
    """What a script told of each of several things that it was asked."""
    done = run(["-c", script, json.dumps(asked)], **given)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(asked)
    return found


def failed(told, code, *words):
    """Check that a command could not have its input, and said so."""
    ended, _, said = told
    assert (ended, said.count("error[")) == (4, 1), said
    assert f"error[{code}]" in said
    assert "Traceback" not in said
    assert all(word in said for word in ("  why: ", "  fix: ", *words)), said


@needs_data
def test_a_suite_of_the_hub_is_that_of_the_folder(run, tmp_path):
    (tmp_path / "text.txt").write_text("Something else.", encoding="utf-8")
    text = (str(tmp_path / "text.txt"),)
    parts = [("tofu", part) for part in ("forget01", "forget05", "forget10")]
    parts += [("muse", "forget"), ("muse", "sust-2")]
    parts += [("wmdp", part) for part in ("bio", "chem", "cyber")]
    asked = [{"name": name, "part": part, "corpus": text, "retain": text} for name, part in parts]
    local = [told_by(Spec(**each, data=str(DATA / FOLDERS[each["name"]]))) for each in asked]
    assert several(run, SUITES, [{**each, "data": HUB[each["name"]]} for each in asked]) == local
    assert {name for name, _ in parts} == set(HUB)


@needs_data
def test_a_benchmark_runs_on_names_of_the_hub_and_goes_on_offline(hub, run, tmp_path):
    words = ["-m", "expunge", "bench", "tofu", "tiny/llama", "--part", "forget01", "--records", "2"]
    words += ["--methods", "npo", "--set", "train.epochs=1", "--set", "max_length=1024"]
    hub.requests.clear()
    done = run(words)
    assert done.returncode == 0, done.stderr
    assert "2 rows, 0 failed" in done.stdout
    board = tmp_path / "bench" / "tofu-forget01" / "leaderboard.json"
    assert '"npo' in board.read_text(encoding="utf-8")
    assert any("TOFU/resolve" in each for each in hub.requests)
    assert [each for each in hub.requests if each.startswith("CONNECT")] == []
    hub.requests.clear()
    done = run([*words, "--offline"])
    assert done.returncode == 0, done.stderr
    assert "2 rows, 0 failed" in done.stdout
    assert hub.requests == []


def test_a_model_of_the_hub_is_that_of_the_folder(hub, run, tmp_path):
    commit = hub.repositories["models/tiny/llama"].commit
    folder = hub.repositories["models/tiny/llama"].folder
    laid = get_peft_model(tiny.llama(), LoraConfig(r=2, target_modules=["q_proj"]))
    laid.peft_config["default"].base_model_name_or_path = "tiny/llama"
    for name, parameter in laid.named_parameters():
        parameter.data.fill_(0.1) if "lora_" in name else None
    laid.save_pretrained(tmp_path / "adapter")
    named, pinned, over, alone = several(
        run, MODELS,
        ["tiny/llama", f"tiny/llama@{commit}", "tiny/llama+adapter", "adapter"],
    )  # fmt: skip
    local, laid_over = digests(str(folder)), digests(f"{folder}+{tmp_path / 'adapter'}")
    assert named == pinned == [commit, local[1]]
    assert over == alone
    assert over[1] == laid_over[1] != local[1]


def test_what_the_hub_does_not_give_is_explained(run):
    data = {
        "own/nothing": ("'own/nothing' doesn't exist on the Hub", "hf auth login"),
        "own/facts/sums:dev": ('Unknown split "dev"', "['test', 'train']"),
        "own/facts/none": ("'none' not found. Available: ['sums', 'more']",),
        "own/secret": ("is a gated dataset on the Hub", "hf auth login"),
        "own/failing": ("LocalEntryNotFoundError",),
        "own/script": ("scripts are no longer supported",),
        "own/broken": ("do not make a table (ArrowInvalid)",),
        "own/empty": ("doesn't contain any data files",),
    }
    models = {
        "tiny/nothing": ("no-model", "not a valid model identifier"),
        "tiny/llama@v9": ("no-model", "v9 is not a valid"),
        "tiny/secret": ("gated-model", "hf auth login"),
        "tiny/failing": ("no-model", "reachable on the Hub"),
        "tiny/llama+tiny/adapter": ("no-adapter", "must be a folder"),
    }
    rest = ["own/facts/sums", "--goal", "removal", "--retain", "none"]
    asked = [["plan", "tiny/llama", name, *rest[1:]] for name in data]
    asked += [["plan", name, *rest] for name in models]
    told = several(run, COMMANDS, asked)
    for each, words in zip(told, data.values(), strict=False):
        failed(each, "data-unavailable", *words)
    for each, words in zip(told[len(data) :], models.values(), strict=True):
        failed(each, *words)
    assert not [each for each in told if "Ada" in each[2]], "no word of a record"


def test_a_hub_that_is_down_is_named(run, hub, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    folder = str(hub.repositories["models/tiny/llama"].folder)
    rest = ["own/facts/sums", "--goal", "removal", "--retain", "none"]
    fresh = {"HF_ENDPOINT": nobody, "HF_HOME": str(tmp_path)}
    model, data = several(
        run, COMMANDS, [["plan", "tiny/llama", *rest], ["plan", folder, *rest]], **fresh
    )
    failed(model, "no-model", nobody)
    failed(data, "data-unavailable", "the Hub could not be reached (ConnectionError)")


@pytest.fixture(scope="module")
def kept():
    """What was planned once with the network."""
    return {}


@pytest.mark.parametrize("way", ["flag", "file", "variable"])
def test_offline_reads_what_was_kept_and_asks_nothing(way, run, hub, home, tmp_path):
    file = tmp_path / "request.toml"
    file.write_text("offline = true\n" if way == "file" else "", encoding="utf-8")
    closed = {"flag": ["--offline"], "file": ["--config", str(file)], "variable": []}[way]
    given = {"HF_HUB_OFFLINE": "true"} if way == "variable" else {}
    plan = [*PLAN, KEPT]
    if not (home / "planned").is_file():
        ((code, out, err),) = several(run, COMMANDS, [plan])
        assert (code, err) == (0, "")
        (home / "planned").write_text(out.partition("\n")[2], encoding="utf-8")
    hub.requests.clear()
    again, config, split, data, model = several(
        run,
        COMMANDS,
        [
            [*plan, *closed],
            [*PLAN, "own/facts/more", *closed],
            [*PLAN, "own/facts/sums:dev", *closed],
            [*PLAN, "own/nothing", *closed],
            ["plan", "tiny/nothing", *plan[2:], *closed],
        ],
        **given,
    )
    assert (again[0], again[2]) == (0, "")
    assert again[1].partition("\n")[2] == (home / "planned").read_text(encoding="utf-8")
    failed(config, "data-offline", "Couldn't find cache for own/facts for config 'more'")
    failed(split, "data-offline", "of what is in the cache: Unknown split")
    failed(data, "data-offline", "it is not in the cache")
    failed(model, "model-offline", "not on this machine and the network is off")
    assert hub.requests == []
