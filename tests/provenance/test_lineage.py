"""Sequential requests: what an earlier run made a model forget is not taught again."""

import json
from pathlib import Path

import pytest

from expunge.cli import main
from expunge.data.records import Message, Record
from expunge.errors import InputError
from expunge.pipeline.forget import forget, plan
from expunge.provenance.keys import fingerprint, key_path, operator_key
from expunge.provenance.lineage import earlier_runs, require_not_forgotten
from expunge.utils.console import Console, Screen


def stated(name, place, line):
    prompt = (Message("user", f"Where does {name} live?"),)
    return Record(id=name, prompt=prompt, completion=f"In {place}.", source=f"all.jsonl:{line}")


ANN, BOB = stated("Ann", "Ulm", 3), stated("Bob", "Bonn", 4)


def a_run(folder, *, forgot, model):
    """Write as much of a run folder as tells what it forgot and what it began with."""
    folder.mkdir()
    key = operator_key(key_path(), run=folder)
    marks = [fingerprint(f"{each.question}\n{each.completion}", key) for each in forgot]
    (folder / "manifest.json").write_text(json.dumps({"data": {"forget": marks}}))
    (folder / "config.toml").write_text(f'model = "{model}"\n')
    return folder


@pytest.mark.parametrize(
    ("reference", "kept", "refused"),
    [
        ("first", [BOB], False),
        ("first", [BOB, ANN], True),
        ("second", [ANN], True),
        ("second", [BOB], True),
        ("base+first", [ANN], True),
        ("base", [ANN], False),
        ("nowhere/at-all", [ANN], False),
    ],
)
def test_what_any_run_before_was_to_forget_is_not_kept(bench, reference, kept, refused):
    a_run(Path("first"), forgot=[ANN], model="base")
    a_run(Path("second"), forgot=[BOB], model="first")
    if not refused:
        require_not_forgotten(reference, kept)
        return
    with pytest.raises(InputError, match="was to forget") as caught:
        require_not_forgotten(reference, kept)
    assert caught.value.code == "forgotten-before"
    assert kept[-1].source in caught.value.what
    assert "Ulm" not in str(caught.value)
    assert "Bonn" not in str(caught.value)


def test_runs_that_name_each_other_end(bench):
    a_run(Path("first"), forgot=[], model="second")
    a_run(Path("second"), forgot=[], model="first")
    assert [run.name for run in earlier_runs("second")] == ["second", "first"]


def test_without_the_key_nothing_can_be_compared(bench, monkeypatch):
    first, own = a_run(Path("first"), forgot=[ANN], model="base"), key_path()
    monkeypatch.setenv("EXPUNGE_KEY_FILE", str(bench.parent / "another.key"))
    require_not_forgotten("first", [ANN])
    assert not key_path().exists(), "to look is no reason to make a key"
    operator_key(key_path(), run=first)  # a key that did not write the manifest
    require_not_forgotten("first", [ANN])
    monkeypatch.setenv("EXPUNGE_KEY_FILE", str(own))
    with pytest.raises(InputError, match="was to forget"):
        require_not_forgotten("first", [ANN])


class Written(Screen):
    """Keeps the lines."""

    def __init__(self):
        self.lines = []

    def line(self, label, text):
        self.lines.append((label, text))


def test_after_a_second_request_the_first_can_be_asked_again(world, bench):
    """What one request erased may come back with the next: the run says how to find out."""
    short = {"train": {"steps": 1}, "audit": {"max_new_tokens": 4}}
    forget(world.settings(out="first", **short))
    request = {"forget": (world.data("neighbours"),), "neighbours": ()}
    settings = world.settings(model="first", out="second", request=request, **short)
    for _ in ("when it ends", "when it is asked for again"):
        screen = Written()
        forget(settings, console=Console(screen))
        (said,) = [text for label, text in screen.lines if label == "earlier"]
        assert said.startswith("first erased other records")
        assert said.endswith("expunge audit second --against first")
    assert main([*said.rpartition("expunge ")[2].split(), "--out", "again"]) == 0
    items = Path("again/evidence/items.jsonl").read_text().splitlines()
    asked = {row["question"] for row in map(json.loads, items) if row["split"] == "forget"}
    assert asked == {row["prompt"] for row in world.rows("forget")}


def test_a_second_request_may_not_keep_what_the_first_one_erased(world, bench):
    """Its retain set is often all but the new forget set: the plan says so, before hours of it."""
    short = {"train": {"steps": 1}, "audit": {"max_new_tokens": 4}}
    forget(world.settings(out="first", **short))
    whole = Path("whole.jsonl")
    rows = [*world.rows("retain"), *world.rows("forget")]
    whole.write_text(
        "".join(json.dumps({**row, "id": str(i)}) + "\n" for i, row in enumerate(rows))
    )
    request = {"forget": (world.data("neighbours"),), "neighbours": (), "retain": (str(whole),)}
    settings = world.settings(model="first", out="second", request=request, **short)
    for begin in (plan, forget):
        with pytest.raises(InputError, match="12 records to keep") as caught:
            begin(settings)
        assert "whole.jsonl:13" in caught.value.what
    assert not Path("second").exists()
