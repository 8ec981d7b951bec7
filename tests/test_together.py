"""What the first of several processes checks and tells; `test_parallel_command` runs it."""

import json
from dataclasses import replace

import pytest
import torch

from expunge.engine.memory import Layout, memory
from expunge.engine.parallel import SOLO, Team
from expunge.engine.size import measure
from expunge.engine.watch import Unseen
from expunge.errors import UsageError
from expunge.methods.terms import Stream
from expunge.model.load import load
from expunge.planning import make_plan
from expunge.prepare import prepare
from expunge.together import call, cost_together, follow, identity, require_spreadable

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
    on_card = replace(adapter, source=replace(adapter.source, device=torch.device("cuda")))
    assert cost_together(on_card, cost, PAIR) == cost
    size = measure(full.config)
    layout = Layout(trained=size.total, bytes_each=4, processes=2, spread=True)
    expected = 2 * memory(size, layout).total
    assert cost_together(full, cost, PAIR).peak_gib == pytest.approx(expected)
    chosen = prepare(world.settings(train={"full": True, "first_layer": 1}))
    assert cost_together(chosen, cost, PAIR) == replace(cost, peak_gib=2 * cost.peak_gib)


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
    assert len(said[0]["alternatives"]) == len(prepared.streams.variants[Stream.ALTERNATIVE])

    words = [said[0], {"train": False, "folder": str(bench / "run")}]
    hears(monkeypatch, words)
    assert follow(settings, SOLO) == bench / "run"
    assert words == []
    assert (bench / "run" / "checkpoints" / "last.safetensors").is_file()

    hears(monkeypatch, [{**said[0], "run": "deadbeef"}])
    with pytest.raises(UsageError, match="the first one does deadbeef"):
        follow(settings, SOLO)
