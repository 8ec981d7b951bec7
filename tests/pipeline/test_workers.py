"""What the first of several processes checks and tells; `test_parallel_command` runs it."""

import json
from dataclasses import replace

import pytest
import torch

from expunge.errors import UsageError
from expunge.methods.base import Stream
from expunge.models.loading import load
from expunge.pipeline import workers
from expunge.pipeline.plan import load_of, make_plan
from expunge.pipeline.workers import call, cost_together, follow, identity, require_spreadable
from expunge.planning.cost import layout_of, peak_gib
from expunge.planning.memory import OVERHEAD, measure, memory
from expunge.preparation.prepare import Prepared, prepare
from expunge.training.distributed import SOLO, Team
from expunge.training.early_stopping import Unseen

PAIR = Team(size=2)


@pytest.mark.parametrize(
    ("train", "team", "refused"),
    [({"full": True}, PAIR, True), ({"full": True}, SOLO, False), ({}, PAIR, False)],
)
def test_a_mask_over_spread_weights_is_refused(train, team, refused, world):
    settings = world.settings(train=train, mask={"name": "wagle"})
    if not refused:
        require_spreadable(settings, team)
        return
    with pytest.raises(UsageError, match="mask wagle does not work with --full on 2 processes"):
        require_spreadable(settings, team)


def test_processes_on_a_cpu_share_its_memory(world):
    full, adapter = (prepare(world.settings(train={"full": full})) for full in (True, False))
    cost = make_plan(adapter).cost
    assert cost_together(adapter, cost, SOLO) is cost
    assert cost_together(adapter, cost, PAIR) == replace(cost, peak_gib=2 * cost.peak_gib)
    assert cost_together(on_card(adapter), cost, PAIR) == cost
    assert cost_together(full, cost, PAIR).peak_gib > 2 * OVERHEAD
    edit = prepare(world.settings(method={"name": "ssd"}, train={"steps": None, "lr": None}))
    assert cost_together(edit, cost, PAIR) is cost
    chosen = prepare(world.settings(train={"full": True, "first_layer": 1}))
    assert cost_together(chosen, cost, PAIR) == replace(cost, peak_gib=2 * cost.peak_gib)


def on_card(prepared):
    return replace(prepared, source=replace(prepared.source, device=torch.device("cuda")))


@pytest.mark.parametrize(
    ("changed", "more"),
    [
        ({"train": {"average_last": 0.5}}, "copies"),
        ({"robust": {"name": "sam"}}, "copies"),
        ({"train": {"tokens_per_pass": 200}}, "early"),
        ({"method": {"name": "graddiff", "retain": "kl"}}, "logits"),
        ({"method": {"name": "rmu"}}, "references"),
    ],
    ids=["mean of weights", "robust", "accumulated", "kl", "states of the original"],
)
def test_memory_of_spread_weights_is_that_of_the_run(changed, more, world):
    """Each half of the numbers, and what is kept beside them."""
    tables = {**changed, "train": {"full": True, **changed.get("train", {})}}
    plain, other = (prepare(world.settings(**each)) for each in ({"train": {"full": True}}, tables))
    size = measure(plain.config)
    held = [spread_over_two(each, size) for each in (plain, other)]
    assert getattr(memory(size, held[1]), more) > getattr(memory(size, held[0]), more)
    cost = make_plan(plain).cost
    for prepared, layout in zip((plain, other), held, strict=True):
        assert cost_together(prepared, cost, PAIR).peak_gib == 2 * peak_gib(size, layout)
        card = replace(layout, card=True)
        assert cost_together(on_card(prepared), cost, PAIR).peak_gib == peak_gib(size, card)


def spread_over_two(prepared, size):
    """How the run lies in the memory of one of two processes that deal its records out."""
    load = load_of(prepared, size)
    half = replace(load, step=load.step.times(0.5))
    layout = layout_of(half, prepared.source.dtype)
    return replace(layout, processes=2, spread=True)


def hears(monkeypatch, words: list[dict]) -> None:
    """Let a process hear these words, as if another had said them."""

    def told(self, value):
        return json.loads(json.dumps(words.pop(0))) if value == {} else value

    monkeypatch.setattr(Team, "told", told)
    monkeypatch.setattr(Team, "agreed", told)


def test_the_others_train_what_they_are_told_and_refuse_another_run(world, bench, monkeypatch):
    rows = [{**row, "alternative": "none"} for row in world.rows("forget")]
    (bench / "edit.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = world.settings(
        method={"name": "dpo"},
        train={"steps": 2},
        request={"goal": "edit", "forget": ("edit.jsonl",), "response": "alternative"},
    )
    prepared = prepare(settings)
    said: list[dict] = []
    monkeypatch.setattr(Team, "told", lambda self, value: said.append(value) or value)
    own = identity(prepared, load(settings.model, prepared.source).digest)
    place = type("Place", (), {"run_id": own, "path": bench / "run"})
    call(PAIR, place, prepared, Unseen(mean=3.0, low=2.0))
    assert len(said[0]["own"]["alternative"]) == len(prepared.streams.variants[Stream.ALTERNATIVE])

    words = [said[0], {"train": False, "folder": str(bench / "run")}]
    hears(monkeypatch, words)
    assert follow(settings, SOLO) == bench / "run"
    assert words == []
    assert (bench / "run" / "checkpoints" / "last.safetensors").is_file()

    hears(monkeypatch, [{**said[0], "run": "deadbeef"}])
    with pytest.raises(UsageError, match="the first one does deadbeef"):
        follow(settings, SOLO)


def test_the_others_train_on_what_the_original_said_to_the_first(world, bench, monkeypatch):
    settings = world.settings(method={"name": "counterfactual"}, train={"steps": 2, "lr": None})
    prepared = prepare(settings)
    answers = tuple(prepared.encoder.encode(record) for record in prepared.scope.retain[:2])
    taught = tuple(answers[:1] for _ in prepared.streams.forget)
    variants = {**prepared.streams.variants, Stream.OTHERS: taught}
    streams = replace(prepared.streams, replay=answers, variants=variants)
    said: list[dict] = []
    monkeypatch.setattr(Team, "told", lambda self, value: said.append(value) or value)
    own = identity(prepared, load(settings.model, prepared.source).digest)
    place = type("Place", (), {"run_id": own, "path": bench / "run"})
    call(PAIR, place, replace(prepared, streams=streams), Unseen(mean=3.0, low=2.0))

    heard: list[Prepared] = []

    class HeardError(Exception):
        """What a process trains on is known."""

    def working(prepared, network):
        heard.append(prepared)
        raise HeardError

    monkeypatch.setattr(workers, "unlearning_of", working)
    for word, others in ((said[0], 0.5), ({**said[0], "own": {}}, 0.0)):
        hears(monkeypatch, [word])
        with pytest.raises(HeardError):
            follow(settings, SOLO)
        assert heard[-1].streams.replay == answers
        assert heard[-1].method.others == others
    assert heard[0].streams.variants[Stream.OTHERS] == taught
