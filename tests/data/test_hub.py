"""Models and data by their Hub id: the real libraries, in other processes, and a Hub of our own."""

import hashlib
import json
import os
import re
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
from expunge.benchmarking.suites import SUITES, load_suite
from expunge.benchmarking.suites.base import Spec, plain
from expunge.data.readers import read_rows
from hub_server import Hub

TESTS = Path(__file__).resolve().parents[1]
DATA = TESTS.parents[1] / "shared" / "data"
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="the benchmark data do not lie beside the checkout"
)
FOLDERS = {"tofu": "tofu", "muse": "muse/news", "wmdp": "wmdp"}
FACTS = [{"question": f"What is {n} and {n}?", "answer": f"It is {2 * n}."} for n in range(12)]
PLAN = ["plan", "tiny/llama", "own/facts/sums:test[:4]", "--goal", "removal", "--retain"]
PLANNED = [*PLAN, "own/facts/sums"]

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
LIBRARY = """
import json, sys
from expunge.benchmarking.suites.base import Spec
from test_hub import digests, told_by
specs, references = json.loads(sys.argv[1])
print(json.dumps([told_by(Spec(**given)) for given in specs]))
print(json.dumps([digests(reference) for reference in references]))
"""
PARTS = {"tofu": ("forget01", "forget10"), "muse": ("forget", "sust-2")}
PARTS["wmdp"] = ("bio", "chem", "cyber")


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

    from expunge.models.loading import Source, files_digest, load

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
        SUITES["tofu"].hub: _card(
            tofu, {p.stem: {"train": p.name} for p in sorted(tofu.glob("*.json"))}
        ),
        SUITES["muse"].hub: _tables(folder / "muse", news),
        SUITES["wmdp"].hub: _tables(folder / "wmdp", questions),
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
    _card(
        facts,
        {
            "sums": {"test": "a.jsonl", "train": "b.jsonl"},
            "more": {"train": "b.jsonl"},
            "less": {"train": "a.jsonl"},
        },
    )
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


@pytest.fixture(scope="module")
def run(hub, home):
    """Run Python in another process, as a user who has that Hub for the only one."""

    def in_process(words: Sequence[str], cwd: Path = home, **given: str):
        ours = ("HF_", "EXPUNGE_", "TRANSFORMERS_", "DATASETS_")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        environment |= {
            "PYTHONPATH": os.pathsep.join([str(TESTS / "data"), *filter(None, sys.path)]),
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
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return in_process


def several(run, asked, **given):
    """What several commands said, and how they ended."""
    return lines(run(["-c", COMMANDS, json.dumps(asked)], **given))


def lines(done):
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def elsewhere(hub):
    """What went to another place than the Hub."""
    return [each for each in hub.requests if each.startswith("CONNECT")]


def failed(told, code, *words):
    """Check that a command could not have its input, and said so."""
    ended, _, said = told
    assert (ended, said.count("error[")) == (4, 1), said
    assert f"error[{code}]" in said
    assert "Traceback" not in said
    assert all(word in said for word in ("  why: ", "  fix: ", *words)), said


def test_suites_and_models_of_the_hub_are_those_of_the_folders(hub, run, tmp_path):
    (tmp_path / "text.txt").write_text("Something else.", encoding="utf-8")
    text = (str(tmp_path / "text.txt"),)
    asked = [
        {"name": name, "part": part, "corpus": text, "retain": text}
        for name, entry in SUITES.items() if entry.hub and DATA.is_dir()
        for part in PARTS[name]
    ]  # fmt: skip
    laid = tmp_path / "adapter"
    network = get_peft_model(tiny.llama(), LoraConfig(r=2, target_modules=["q_proj"]))
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            parameter.data.fill_(0.1)
    network.save_pretrained(laid)
    config = json.loads((laid / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = "tiny/llama"
    (laid / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    of_hub = hub.repositories["models/tiny/llama"]
    references = ["tiny/llama", f"tiny/llama@{of_hub.commit}", f"tiny/llama+{laid}", str(laid)]
    specs = [{**each, "data": SUITES[each["name"]].hub} for each in asked]
    suites, models = lines(run(["-c", LIBRARY, json.dumps([specs, references])]))
    assert suites == [
        told_by(Spec(**each, data=str(DATA / FOLDERS[each["name"]]))) for each in asked
    ]
    plain_one, over = digests(str(of_hub.folder)), digests(f"{of_hub.folder}+{laid}")
    assert models[0] == models[1] == [of_hub.commit, plain_one[1]]
    assert models[2] == models[3]
    assert models[2][1] == over[1] != plain_one[1]


@needs_data
def test_a_benchmark_runs_on_names_of_the_hub_and_goes_on_offline(hub, run, tmp_path):
    words = ["-m", "expunge", "bench", "wmdp", "tiny/llama", "--part", "chem", "--records", "2"]
    words += ["--corpus", "own/facts/sums:test", "--keep", "own/facts/more", "--methods", "npo"]
    words += ["--set", "train.epochs=1"]
    hub.requests.clear()
    done = run([*words, "--shard", "1/2"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 rows, 0 failed, 1 still to come" in done.stdout
    assert any(f"{SUITES['wmdp'].hub}/resolve" in each for each in hub.requests)
    assert elsewhere(hub) == []
    hub.requests.clear()
    (tmp_path / "expunge.toml").write_text("offline = true\n", encoding="utf-8")
    done = run([*words, "--shard", "2/2"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 rows, 0 failed, 0 still to come" in done.stdout
    assert hub.requests == []


NOT_DATA = {
    "own/nothing": ("'own/nothing' doesn't exist on the Hub", "hf auth login"),
    "own/facts/sums:dev": ('Unknown split "dev"', "['test', 'train']"),
    "own/facts/none": ("'none' not found. Available: ['sums', 'more', 'less']",),
    "own/secret": ("is a gated dataset on the Hub", "hf auth login"),
    "own/failing": ("LocalEntryNotFoundError",),
    "own/script": ("scripts are no longer supported",),
    "own/broken": ("do not make a table (ArrowInvalid)",),
    "own/empty": ("doesn't contain any data files",),
}
NOT_MODELS = {
    "tiny/nothing": ("no-model", "not a valid model identifier"),
    "tiny/llama@v9": ("no-model", "v9 is not a valid"),
    "tiny/secret": ("gated-model", "hf auth login"),
    "tiny/failing": ("no-model", "reachable on the Hub"),
    "tiny/llama+tiny/adapter": ("no-adapter", "must be a folder"),
}
REST = ["own/facts/sums", "--goal", "removal", "--retain", "none"]


@pytest.fixture(scope="module")
def online(hub, run):
    """What a plan by names of the Hub said, and commands that ask for what it does not give."""
    asked = [PLANNED, *(["plan", "tiny/llama", name, *REST[1:]] for name in NOT_DATA)]
    hub.requests.clear()
    told = several(run, [*asked, *(["plan", name, *REST] for name in NOT_MODELS)])
    assert elsewhere(hub) == []
    return told


@pytest.fixture
def planned(online):
    """The plan, without its first line, which tells of the network."""
    code, out, err = online[0]
    assert (code, err) == (0, "")
    return out.partition("\n")[2]


def test_what_the_hub_does_not_give_is_explained(online):
    data, models = online[1 : len(NOT_DATA) + 1], online[len(NOT_DATA) + 1 :]
    for told, words in zip(data, NOT_DATA.values(), strict=True):
        failed(told, "data-unavailable", *words)
    for told, words in zip(models, NOT_MODELS.values(), strict=True):
        failed(told, *words)
    texts = ["Ada", *(value for row in FACTS for value in row.values())]
    spoken = "".join(out + said for _, out, said in online)
    assert [text for text in texts if text in spoken] == [], "a text of a record"


def test_a_hub_that_is_down_is_named(run, hub, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    folder = str(hub.repositories["models/tiny/llama"].folder)
    fresh = {"HF_ENDPOINT": nobody, "HF_HOME": str(tmp_path)}
    asked = [["plan", name, *REST] for name in ("tiny/llama", folder)]
    model, data = several(run, asked, **fresh)
    failed(model, "no-model", nobody)
    failed(data, "data-unavailable", "the Hub could not be reached: no connection", nobody)


def timeless(plan: str) -> str:
    """Return a plan without its seconds, which depend on what else the machine does."""
    return re.sub(r" +\d+ (s|min|h)\b", "", plan)


@pytest.mark.parametrize("way", ["flag", "variable"])
def test_offline_reads_what_was_kept_and_asks_nothing(way, planned, hub, run):
    closed = ["--offline"] if way == "flag" else []
    given = {"HF_HUB_OFFLINE": "true"} if way == "variable" else {}
    hub.requests.clear()
    asked = [
        PLANNED,
        [*PLAN, "own/facts/less"],
        [*PLAN, "own/facts/sums:dev"],
        [*PLAN, "own/nothing"],
        ["plan", "tiny/nothing", *PLANNED[2:]],
    ]
    again, config, split, data, model = several(run, [[*each, *closed] for each in asked], **given)
    assert (again[0], again[2]) == (0, "")
    assert timeless(again[1].partition("\n")[2]) == timeless(planned)
    failed(config, "data-offline", "Couldn't find cache for own/facts for config 'less'")
    failed(split, "data-offline", "of what is in the cache: Unknown split")
    failed(data, "data-offline", "it is not in the cache")
    failed(model, "model-offline", "not on this machine and the network is off")
    assert hub.requests == []
