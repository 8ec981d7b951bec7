"""The verbs as they are called in Python: with objects in memory, and with wrong arguments."""

import inspect
import stat
from datetime import date
from pathlib import Path
from typing import get_args

import pytest
import torch
from datasets import Dataset, DatasetDict
from pandas import DataFrame
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import expunge
from expunge import ExpungeError
from expunge.pipeline.forget import RunOutcome
from expunge.pipeline.inputs import RunInputs, settings_for
from expunge.provenance.verify import verify
from expunge.utils.console import SilentConsole

SHORT = {
    "train.steps": 2,
    "audit.max_new_tokens": 10,
    "device": "cpu",
    "offline": True,
    "request.utility_budget": 0.9,
}
ROWS = [{"prompt": "Where does Lin live?", "completion": "In Oslo."}]


@pytest.fixture(scope="module")
def pair(world):
    """A model in memory and its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(world.original, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(world.original)


def given(world, **changes):
    sets = {name: world.rows(name) for name in ("forget", "retain", "neighbours")}
    options = {**SHORT, "request.control": [world.data("control")]}
    return {**sets, "goal": "removal", "method": "npo", "options": options, **changes}


def test_objects_in_memory_make_a_run_that_verifies_repeats_and_shows_itself(world, pair, bench):
    model, tokenizer = pair
    before = {name: value.clone() for name, value in model.state_dict().items()}
    updates = []
    call = given(world, retain=Dataset.from_list(world.rows("retain")), progress=updates.append)
    outcome = expunge.forget(model, tokenizer, **call)
    assert verify(outcome.folder).ok
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    after = AutoModelForCausalLM.from_pretrained(outcome.model).state_dict()
    assert any(not torch.equal(after[name], before[name]) for name in before)

    again = expunge.forget(model, tokenizer, **given(world, progress=updates.append))
    assert again.folder == outcome.folder, "rows of a list and of a data set are the same run"
    from_paths = expunge.forget(
        world.original, **given(world, **{name: world.data(name) for name in ("forget", "retain")})
    )
    assert from_paths.folder == outcome.folder, "where the records lie is not part of a run"
    assert stat.S_IMODE(Path("runs/inputs").stat().st_mode) == 0o700
    names = sorted(path.name.split("-")[0] for path in Path("runs/inputs").iterdir())
    assert names == ["forget", "model", "neighbours", "retain"], "each is written once"

    phases = [update.phase for update in updates]
    assert {"before", "train", "after"} <= set(phases)
    steps = [update.done for update in updates if update.phase == "train"]
    assert steps == [0, 1, 2]

    read = RunOutcome.read(outcome.folder)
    assert read.verdict == outcome.verdict
    table = read.table()
    assert list(table["name"]) == [gate.name for gate in read.results.gates]
    assert len(read.table("scores")) == len(read.results.scores)
    assert outcome.verdict.ruling.value in outcome._repr_html_()
    assert len(repr(outcome)) < 200
    assert str(outcome.verdict).startswith(f"{outcome.verdict.ruling.value} (T0, ")
    assert expunge.verify(str(outcome.folder)).ok
    reply = expunge.chat(str(outcome.folder), world.rows("forget")[0]["prompt"], offline=True)
    assert {"original", "unlearned"} <= {each.role for each in reply.answers}
    assert reply.erased == world.rows("forget")[0]["completion"]


def test_a_model_in_memory_is_audited_against_one_on_disk(world, pair, bench):
    model, tokenizer = pair
    call = given(world, progress=None)
    del call["method"]
    outcome = expunge.audit(world.gold, tokenizer, model=model, **call)
    assert {"original", "unlearned"} <= outcome.results.models.keys()
    assert outcome.results.models["original"] != outcome.results.models["unlearned"]
    with pytest.raises(ExpungeError, match="tokenizer-not-needed"):
        expunge.audit(world.gold, tokenizer, model=world.original, **call)


WRONG = {
    "not-a-model": {"model": 7},
    "no-tokenizer": {"tokenizer": None},
    "no-goal": {"goal": None},
    "no-forget": {"forget": None},
    "not-records": {"forget": DatasetDict({"train": Dataset.from_list(ROWS)})},
    "paths-and-rows": {"forget": ["a.jsonl", *ROWS]},
    "missing-field": {"forget": [{"quote": "x"}]},
    "field-not-json": {"forget": [{**ROWS[0], "added": date(2026, 1, 1)}]},
    "unknown-key": {"options": {"train.learning_rate": 1}},
    "invalid-value": {"options": {"train.lr": -1}},
    "options-not-a-mapping": {"options": ["train.lr"]},
    "given-twice": {"options": {"request.goal": "edit"}},
    "unknown-method": {"method": "npoo"},
    "data-missing": {"retain": "kept.jsonl"},
    "progress-not-callable": {"progress": 3},
    "console-and-progress": {"progress": print, "console": SilentConsole()},
}


@pytest.mark.parametrize("code", WRONG)
def test_a_wrong_argument_is_named_in_words(code, world, pair, bench):
    call = {"model": pair[0], "tokenizer": pair[1], **given(world), **WRONG[code]}
    with pytest.raises(ExpungeError) as found:
        expunge.forget(**call)
    assert found.value.code == code
    assert "Lin" not in str(found.value)
    assert not list(bench.rglob("run.json"))


def test_weights_that_would_not_be_saved_whole_are_refused(world, pair, bench):
    config = LoraConfig(r=2, target_modules=["q_proj"])
    wrapped = get_peft_model(AutoModelForCausalLM.from_pretrained(world.original), config)
    for model, code in ((wrapped, "not-a-model"), (wrapped.base_model.model, "adapter-in-model")):
        with pytest.raises(ExpungeError) as found:
            expunge.forget(model, pair[1], **given(world))
        assert found.value.code == code


def test_settings_stand_alone(world):
    with pytest.raises(ExpungeError, match=r"beside them goal"):
        expunge.forget(world.settings(), goal="removal")


def test_data_frames_and_words_are_sources(tmp_path):
    inputs = RunInputs(forget=DataFrame(ROWS), retain="none", goal="removal")
    request = settings_for("org/model", inputs, root=tmp_path).request
    assert request.retain == "none"
    (path,) = request.forget
    assert expunge.read([path]).records[0].completion == "In Oslo."


def test_every_function_takes_paths_as_text():
    functions = [getattr(expunge, name) for name in expunge.__all__]
    for function in filter(inspect.isfunction, functions):
        for parameter in inspect.signature(function).parameters.values():
            kinds = {parameter.annotation, *get_args(parameter.annotation)}
            assert Path not in kinds or str in kinds, (function.__name__, parameter.name)


@pytest.mark.parametrize(
    "call",
    [
        lambda run: expunge.RunOutcome.read(run),
        lambda run: expunge.verify(run),
        lambda run: expunge.report(run),
        lambda run: expunge.merge(run, out="merged"),
        lambda run: expunge.push(run, "owner/name"),
        lambda run: expunge.chat(run, "Where does Lin live?"),
        lambda run: expunge.letter(run),
        lambda run: expunge.annex(run),
        lambda run: expunge.certificate(run),
        lambda run: expunge.forget_exactly(run, ["erase.jsonl"]),
        lambda run: expunge.gold(run, ["erase.jsonl"]),
        lambda run: expunge.rollback(run, to=0),
        lambda run: expunge.read_queue(run, environ={}),
        lambda run: expunge.explain(run),
    ],
)
def test_a_run_that_is_not_there_is_named(call, bench):
    with pytest.raises(ExpungeError, match="no-such-run"):
        call("no-such-run")


def test_a_misspelt_field_is_named_though_another_is_missing():
    with pytest.raises(ExpungeError, match="did you mean `forget`"):
        expunge.Request(goal="removal", forgett=("a.jsonl",))
    with pytest.raises(ExpungeError, match="it is empty"):
        expunge.forget("org/model", forget=[], goal="removal")
