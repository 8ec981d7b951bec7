"""Wrong paths and names are answered at once: before torch is imported, and without the Hub."""

import json
import socket
import subprocess
import sys

import pytest

from expunge.models.reference import require_model

SCRIPT = """
import contextlib, io, json, os, socket, sys, time

def closed(*_):
    raise AssertionError("the network was asked")

socket.getaddrinfo = socket.socket.connect = closed
from expunge.cli import main
started = time.process_time()  # since the process began
for words in json.load(sys.stdin):
    before, said = time.process_time(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(words)
    loaded = [name for name in ("torch", "transformers", "datasets") if name in sys.modules]
    seconds = started + time.process_time() - before
    print(json.dumps([code, said.getvalue(), loaded, seconds]))
    os.environ.pop("HF_HUB_OFFLINE", None)
"""
SECONDS = 1.5
"""Of processor time, for the answer to a mistake."""

GOAL = ("--goal", "removal")
FORGET = ("forget", "./model", "erase.jsonl", *GOAL)
PLAN = ("plan", "./model", "erase.jsonl", *GOAL)
AUDIT = ("audit", "./model", "--against", "erase.jsonl", "--original", "./model", *GOAL)
ATTACK = ("attack", *AUDIT[1:])
BENCH = ("bench", "tofu", "./model", "--data", "TOFU")
TUNE = ("tune", *FORGET[1:])
TRAIN = ("train", "./model", "erase.jsonl")
REQUEST = ("request", "Lin Aro", "--corpus", "letters", "--model", "./model")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the names that the words below nearly are; no file holds what it should."""
    root = tmp_path_factory.mktemp("place")
    for model in ("model", "runs/kept"):
        (root / model).mkdir(parents=True)
        (root / model / "config.json").write_text(json.dumps({"model_type": "llama"}))
        (root / model / "model.safetensors").write_bytes(b"")
    for run in ("runs/first",):
        (root / run).mkdir(parents=True)
        (root / run / "run.json").write_text("{}")
    (root / "trained").mkdir()
    (root / "trained" / "training.json").write_text("{}")
    (root / "pickled").mkdir()
    (root / "pickled" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (root / "pickled" / "pytorch_model.bin").write_bytes(b"")
    (root / "no-type").mkdir()
    (root / "no-type" / "config.json").write_text("{}")
    (root / "erase.jsonl").write_text(json.dumps({"prompt": "Who?", "completion": "Ann"}))
    (root / "key.pub").write_text("ab" * 32)
    (root / "TOFU").mkdir()
    (root / "letters").mkdir()
    (root / "letters" / "one.txt").write_text("Lin Aro's phone number is 555-7233.")
    (root / "tune").mkdir()
    return root


def swapped(words, old, new):
    assert old in words
    return tuple(new if word == old else word for word in words)


MISTAKES = [
    *(
        (swapped(words, "./model", "./modle"), 4, "no-model", "did you mean model?")
        for words in (FORGET, PLAN, ATTACK, BENCH, TUNE, TRAIN)
    ),
    (swapped(FORGET, "./model", "runs/kpet"), 4, "no-model", "did you mean runs/kept?"),
    (swapped(FORGET, "./model", "runss/kept"), 4, "no-model", "did you mean runs/kept? (a model"),
    (swapped(FORGET, "./model", "modle"), 4, "no-model", "(a model of the Hub: modle@main)"),
    (("--offline", *swapped(FORGET, "./model", "modle@main")), 4, "model-offline", "is off"),
    (swapped(FORGET, "./model", "gone.gguf"), 4, "no-model", "must be a file on this machine"),
    (swapped(FORGET, "./model", "pickled"), 4, "unreadable-model", "no safetensors weights"),
    (swapped(FORGET, "./model", "no-type"), 4, "unreadable-model", "names no model_type"),
    (swapped(FORGET, "./model", "TOFU"), 4, "unreadable-model", "holds no config.json"),
    (("audit", "./modle", *AUDIT[2:]), 4, "no-model", "did you mean model?"),
    ((*AUDIT[:5], "./modle", *GOAL), 4, "no-model", "did you mean model?"),
    ((*FORGET, "--gold", "runs/kpet"), 4, "no-model", "did you mean runs/kept?"),
    *(
        (swapped(words, "erase.jsonl", "erasee.jsonl"), 4, "data-missing", "mean erase.jsonl?")
        for words in (FORGET, PLAN, AUDIT, ATTACK, TUNE, TRAIN)
    ),
    ((*FORGET, "--retain", "erase.json"), 4, "data-missing", "did you mean erase.jsonl?"),
    (("audit", "./model", "--against", "runs/frist"), 4, "data-missing", "mean runs/first?"),
    (("attack", "./model", "--against", "runs/frist"), 4, "data-missing", "mean runs/first?"),
    *(
        (("--offline", *swapped(words, "erase.jsonl", "ownr/nmae")), 4, "data-offline", "the cache")
        for words in (FORGET, PLAN, AUDIT, ATTACK, TUNE, TRAIN)
    ),
    (swapped(BENCH, "TOFU", "TOFUU"), 4, "no-benchmark-folder", "did you mean TOFU?"),
    *(
        ((*words, "--method", "nppo"), 2, "unknown-method", "did you mean npo?")
        for words in (FORGET, PLAN, TUNE)
    ),
    ((*BENCH, "--methods", "nppo"), 2, "unknown-method", "did you mean npo?"),
    ((*BENCH, "--methods", "npo+smm"), 2, "unknown-wrapper", "did you mean sam?"),
    ((*TUNE, "--search", "nppo"), 2, "unknown-method", "did you mean npo?"),
    ((*FORGET, "--set", "robust.name=smm"), 2, "unknown-robust", "did you mean sam?"),
    ((*PLAN, "--set", "optimiser.name=sofia"), 2, "unknown-optimiser", "did you mean sophia?"),
    ((*FORGET, "--set", "audit.attacks=relaern"), 2, "unknown-attack", "did you mean relearn?"),
    ((*AUDIT, "--set", "audit.attacks=relaern"), 2, "unknown-attack", "did you mean relearn?"),
    ((*ATTACK, "--only", "relaern"), 2, "unknown-attack", "did you mean relearn?"),
    ((*FORGET, "--tracker", "trackio"), 2, "no-tracker", "pip install 'expunge[trackio]'"),
    ((*TRAIN, "--tracker", "trackio"), 2, "no-tracker", "pip install 'expunge[trackio]'"),
    ((*ATTACK, "--prompts", "gone.jsonl"), 4, "no-prompts", "check the path"),
    (("bench", "tofuu", "./model"), 2, "unknown-suite", "did you mean tofu?"),
    (("bench", "report", "tnue"), 4, "no-matrix", "did you mean tune?"),
    *(
        ((verb, "runs/frist", *more), 4, "no-run", "did you mean runs/first?")
        for verb, *more in (["verify"], ["report"])
    ),
    (("verify", "runs/first", "--key", "keyy.pub"), 4, "no-public-key", "did you mean key.pub?"),
    (("merge", "runs/frist", "--out", "merged"), 4, "no-adapter", "did you mean runs/first?"),
    (("recipe", "persn"), 2, "unknown-recipe", "did you mean person?"),
    (("recipe", "person", "--base", "./modle"), 4, "no-model", "did you mean model?"),
    (("locate", "./modle", "--for", "erase.jsonl"), 4, "no-model", "did you mean model?"),
    (("locate", "./model", "--for", "erasee.jsonl"), 4, "data-missing", "mean erase.jsonl?"),
    (("trace", "./model", "--corpus", "gone", "--for", "erase.jsonl"), 4, "data-missing", "check"),
    (("trace", "./modle", "--corpus", "TOFU", "--for", "erase.jsonl"), 4, "no-model", "mean model"),
    (swapped(REQUEST, "letters", "lettres"), 4, "data-missing", "did you mean letters?"),
    (swapped(REQUEST, "letters", "letters/oen.txt"), 4, "data-missing", "mean letters/one.txt?"),
    (swapped(REQUEST, "letters", "model/model.safetensors"), 4, "unknown-kind", "save it as text"),
    (("--offline", *swapped(REQUEST, "letters", "ownr/nmae")), 4, "data-offline", "the cache"),
    (swapped(REQUEST, "./model", "./modle"), 4, "no-model", "did you mean model?"),
    (swapped(REQUEST, "Lin Aro", "..."), 2, "no-name", "First Last"),
    (swapped(REQUEST, "Lin Aro", "letters/oen.txt"), 4, "no-name-file", "mean letters/one.txt?"),
    ((*REQUEST, "--corpsu", "letters"), 2, "usage", "Did you mean --corpus?"),
    ((*REQUEST, "--choose", "two"), 2, "usage", "choose"),
    ((*REQUEST, "--goal", "removel"), 2, "usage", "removal"),
    (swapped(FORGET, "erase.jsonl", ""), 2, "no-words", "in quotes"),
    (swapped(FORGET, "erase.jsonl", "Lin Aro"), 4, "only-a-name", "expunge request"),
    (swapped(PLAN, "erase.jsonl", "Who is Lin Aro?"), 2, "question-not-answered", "a sentence"),
    (("forget", "./modle", "Who is Lin Aro", *GOAL), 4, "no-model", "did you mean model?"),
    (("forget", "./modle", "Lin Aro lives in Oslo.", *GOAL), 4, "no-model", "did you mean model?"),
    (("forget", "Lin Aro lives in Oslo.", *GOAL), 2, "model-is-a-sentence", "forget MODEL"),
    (("forget", "erase.toml", "Who is Lin Aro?"), 2, "question-not-answered", "a sentence"),
    (swapped(TUNE, "erase.jsonl", ""), 2, "invalid-value", "take it out"),
    (("gold", "traind", "--forget", "erase.jsonl"), 4, "no-training", "did you mean trained?"),
    (("forget", "traind", "--exact", "erase.jsonl"), 4, "no-training", "did you mean trained?"),
]  # fmt: skip


@pytest.fixture(scope="module")
def answers(place):
    """Code, message, libraries and seconds of each mistake; one process makes them all."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps([words for words, *_ in MISTAKES]),
        cwd=place,
        env={"PYTHONPATH": ":".join(sys.path), "HOME": str(place)},
        capture_output=True,
        text=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.parametrize("index", range(len(MISTAKES)), ids=lambda i: " ".join(MISTAKES[i][0]))
def test_a_mistake_is_answered_before_torch_is_loaded(answers, index):
    _, code, name, told = MISTAKES[index]
    found, trouble = answers
    assert len(found) == len(MISTAKES), trouble
    ended, said, loaded, seconds = found[index]
    assert f"error[{name}]: " in said
    assert told in said
    assert (ended, loaded) == (code, [])
    assert seconds < SECONDS


def test_every_verb_that_names_a_model_or_a_run_has_a_mistake():
    verbs = "attack audit bench forget gold locate merge plan recipe report request trace train"
    found = " ".join(sorted({words[0] for words, *_ in MISTAKES} - {"--offline"}))
    assert found == f"{verbs} tune verify"


def test_a_copy_of_the_hub_counts_as_there(place, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(ValueError, match="did you mean model"):
            require_model("modle", offline=False)
        (tmp_path / "models--modle").mkdir()
        require_model("modle", offline=False)


@pytest.mark.parametrize("proxy", ["", "http://127.0.0.1:{port}"])
def test_a_name_of_the_hub_is_refused_at_once_where_nothing_answers(proxy, monkeypatch, tmp_path):
    """Directly and through a proxy; where something listens, the libraries may ask."""
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        hub = "http://hub.invalid" if proxy else f"http://127.0.0.1:{port}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub)
        monkeypatch.setenv("http_proxy", proxy.format(port=port))
        require_model("models/nope", offline=False)
    with pytest.raises(ValueError, match="no model models/nope") as refused:
        require_model("models/nope", offline=False)
    assert refused.value.code == "no-model"
    assert refused.value.why.endswith(f": no connection to http://127.0.0.1:{port}")
