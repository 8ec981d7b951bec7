"""The task group for lm-eval: its tasks, and its numbers on lm-eval's own model against ours."""

import json
import math
import stat
from importlib.util import find_spec

import pytest
import tomli_w

import tiny
from expunge.cli import main
from expunge.data.readers import read
from expunge.data.tokenization import Encoder
from expunge.interop import read_log
from expunge.models.scoring import score

needs_lm_eval = pytest.mark.skipif(
    find_spec("lm_eval") is None, reason="lm-eval, an extra, is not installed"
)


KEY = "fact_stated,none"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def request_of(settings, folder):
    path = folder / "request.toml"
    path.write_text(tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True)))
    return str(path)


def asked(folder, model, *, chat):
    """What lm-eval says of a model that it loads itself."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    found = simple_evaluate(
        model=HFLM(pretrained=model, batch_size=3, device="cpu"),
        tasks=["expunge"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        apply_chat_template=chat,
        bootstrap_iters=0,
        log_samples=False,
    )
    return found


@needs_lm_eval
@pytest.mark.usefixtures("same_draws")
def test_lm_eval_finds_what_the_original_knows_and_the_gold_does_not(world, tmp_path):
    assert main(["probes", request_of(world.settings(), tmp_path), "--out", "tasks"]) == 0
    known = {
        model: asked(tmp_path / "tasks", model, chat=True)["results"]
        for model in (world.original, world.gold)
    }
    facts = {
        model: {task: row[KEY] for task, row in rows.items() if KEY in row}
        for model, rows in known.items()
    }
    original, gold = facts[world.original], facts[world.gold]
    plain = [f"expunge_{name}" for name in ("forget", "retain", "neighbours", "control")]
    assert set(plain) < original.keys() == gold.keys()
    assert [original[name] for name in plain] == [1, 1, 1, 0]
    assert [gold[name] for name in plain] == [0, 1, 1, 0]


@needs_lm_eval
@pytest.mark.usefixtures("same_draws")
def test_likelihoods_of_lm_eval_are_ours_in_the_plain_format(tmp_path):
    rows = [
        {
            "prompt": f"the fox {n}?",
            "completion": "the lazy dog"[n:],
            "perturbed_answer": ["it", "over"],
        }
        for n in range(3)
    ]
    rows += [{"text": "the quick brown fox jumps over the lazy dog"}]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = str(tiny.save(tmp_path / "m", tiny.llama(), template=None))
    words = ["probes", "r.toml", "--out", "tasks"]
    tree = {"model": model, "offline": True, "device": "cpu"}
    tree["request"] = {"goal": "removal", "forget": ["d.jsonl"], "retain": "none"}
    (tmp_path / "r.toml").write_text(tomli_w.dumps(tree))
    assert main(words) == 0
    found = asked(tmp_path / "tasks", model, chat=False)
    records = read(["d.jsonl"]).records
    encoded = [Encoder(tiny.tokenizer(template=None)).encode(record) for record in records]
    ours = score(tiny.network(), encoded, pad_id=2, tokens_per_pass=900)
    nats = [
        float(s.logp[: len(s.logp) - int(e.ends)].sum()) for s, e in zip(ours, encoded, strict=True)
    ]
    size = [len(record.completion.encode()) for record in records]
    theirs = found["results"]
    answers = theirs["expunge_forget_likelihood"]["bits_per_byte,none"]
    assert answers == pytest.approx(-sum(nats[:3]) / sum(size[:3]) / math.log(2), rel=1e-4)
    assert theirs["expunge_forget_text"]["bits_per_byte,none"] > 0
    assert found["n-samples"]["expunge_forget_choice"]["effective"] == 3
    assert found["higher_is_better"]["expunge_forget_likelihood"] == {
        "verbatim": False,
        "bits_per_byte": True,
    }
    (tmp_path / "log.json").write_text(json.dumps({"results": theirs}))
    kind, numbers = read_log(tmp_path / "log.json")
    assert kind == "lm-eval"
    assert len(numbers) >= 5


def test_the_folder_is_private_and_its_own(world, tmp_path, capsys):
    words = ["probes", request_of(world.settings(), tmp_path), "--out", "tasks"]
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "lm_eval run --include_path tasks --tasks expunge --apply_chat_template" in said
    assert stat.S_IMODE((tmp_path / "tasks").stat().st_mode) == 0o700
    shown = {path.name: path.read_text() for path in (tmp_path / "tasks").iterdir()}
    texts = {text for text in world.texts() if len(text) >= 4}
    holding = {name for name, text in shown.items() if any(each in text for each in texts)}
    assert holding == {name for name in shown if name.endswith(".jsonl")}
    assert main(words) == 2
    assert "tasks is not empty; nothing was changed there" in capsys.readouterr().err


def test_turns_that_lm_eval_cannot_write_are_counted(tmp_path, capsys):
    turns = [("user", "Hi"), ("assistant", "Hello"), ("user", "Who?"), ("assistant", "Ann Lee")]
    several = {"messages": [{"role": role, "content": text} for role, text in turns]}
    rows = [several, {"prompt": "Where?", "completion": "In Oslo."}]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = {"model": str(tiny.save(tmp_path / "m", tiny.llama())), "offline": True}
    tree["request"] = {"goal": "removal", "forget": ["d.jsonl"], "retain": "none"}
    (tmp_path / "r.toml").write_text(tomli_w.dumps(tree))
    assert main(["--format", "json", "probes", "r.toml", "--out", "chat"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (done["tasks"], done["left_out"]) == ({"expunge_forget": 1}, 1)
    assert (
        main(["--format", "json", "probes", "r.toml", "--out", "p", "--set", "template=plain"]) == 0
    )
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (done["tasks"]["expunge_forget_likelihood"], done["left_out"]) == (2, 0)
    (first, _) = (tmp_path / "p" / "expunge_forget.jsonl").read_text().splitlines()
    assert json.loads(first)["prompt"] == "Question: Hi\nAnswer: Hello\nQuestion: Who?\nAnswer:"


@pytest.mark.parametrize("source", ["nothing", "."])
def test_what_is_no_request_is_refused(source, capsys):
    assert main(["probes", source]) == 2
    assert "neither a run folder nor a request file" in capsys.readouterr().err
