"""Forget records that the original does not know: named, left out of the claim, and no obstacle."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import expunge
from attack_trials import CONTROL, ground, item, outcome, trial
from expunge.cli.main import main
from expunge.evals.assess import assess, case_of
from expunge.evals.attack_gates import claimed_ground
from expunge.evals.comparison import anything_to_forget, unknown_records
from expunge.evals.evidence_table import Table
from expunge.evals.recovery import recovery_table
from expunge.metrics.base import EXTRACTION_STRENGTH
from synthetic_audit import Model, items, never, world
from tiny_world import fact

SIZES = {"forget": 0, "retain": 12, "neighbours": 12, "control": 12, "generic": 8}


def case(folder: Path, records: int, unknown: int, *, golds: int, lucky: int = 0):
    """A case of one known person and records of others that the original does not know.

    Args:
        folder: Of the evidence.
        records: Size of the forget set.
        unknown: How many of them the original does not know, the last ones.
        golds: Number of golds.
        lucky: How many control items the original recites all the same.
    """

    def knows(split: str, index: int, _: str) -> bool:
        if split == "control":
            return index < lucky
        return split != "forget" or index < records - unknown

    sizes = {**SIZES, "forget": records}
    # A little less likely than control items, so that no strange record looks known by luck.
    original = Model(knows=knows, noise=1002, shift=-0.6)
    store = world(folder, Model(knows=never, noise=5), original=original, golds=golds, sizes=sizes)
    rows = items(sizes)
    rows = [
        replace(row, subject=f"other {i}")
        if row.split == "forget" and i >= records - unknown
        else row
        for i, row in enumerate(rows)
    ]
    store.write_items(rows)
    return store, case_of(Table.read(store), store.context())


SHARES = [(13, 0, 0), (13, 1, 1), (15, 3, 3), (12, 6, 6), (13, 7, None), (12, 12, None)]
"""Records, how many of them the original does not know, how many are left out."""


@pytest.mark.parametrize("golds", [0, 2])
@pytest.mark.parametrize(("records", "unknown", "left_out"), SHARES)
def test_unknown_records_are_left_out_up_to_half(records, unknown, left_out, golds, tmp_path):
    store, found = case(tmp_path, records, unknown, golds=golds)
    kept = found.table.items["forget"]
    if left_out is None:
        assert len(kept) == records, "more than half: nothing is left out, and nothing is claimed"
        assert not anything_to_forget(found)
        return
    assert anything_to_forget(found)
    names = [f"forget-{i}" for i in range(records)]
    assert [name for name in names if name not in kept] == names[records - left_out :]
    assert len(found.column(EXTRACTION_STRENGTH, "original", "forget")) == records - left_out
    shown = [score.n for score in assess(store).scores if score.split == "forget"]
    assert max(shown) == records - left_out


@pytest.mark.parametrize("golds", [0, 2])
@pytest.mark.parametrize(("records", "unknown", "left_out"), SHARES)
def test_the_ladder_leaves_out_the_same(records, unknown, left_out, golds):
    known = records - unknown
    facts = [
        replace(item(index), subject="one" if index < known else f"other {index}")
        for index in range(records)
    ]
    rows = facts if golds else [*facts, *CONTROL]
    whole = replace(
        ground(golds=((),) * golds, items=rows), original=outcome(set(range(known)), facts)
    )
    kept = [each.record for each in claimed_ground(whole).items if each.split == "forget"]
    assert kept == [each.record for each in facts[: records - (left_out or 0)]]
    (rung,) = recovery_table([trial(judged=outcome({0}, facts), golds=((),) * golds)], whole)
    (again,) = recovery_table(
        [trial(judged=outcome({0}, facts), golds=((),) * golds)], claimed_ground(whole)
    )
    if left_out:
        assert (rung.worst.n, again.worst.n) == (records, records - left_out)


def test_one_strange_record_would_end_the_run(tmp_path):
    """The reason of the rule: two clusters, of which one is unknown, have no interval above 0."""
    store, found = case(tmp_path, 13, 1, golds=0)
    assert len(found.table.items["forget"]) == 12
    assert not anything_to_forget(replace(found, table=Table.read(store)))


def test_luck_is_no_knowledge(tmp_path):
    """Where control items are recited as well, reciting shows nothing."""
    store, _ = case(tmp_path, 12, 4, golds=0, lucky=3)
    whole = replace(case_of(Table.read(store), store.context()), table=Table.read(store))
    assert len(unknown_records(whole)) == 12


def test_a_run_names_what_it_leaves_out_and_goes_on(world, bench, capsys):
    import random

    rows = world.rows("forget")
    stranger = {**fact("control", 40, random.Random(5)), "id": "x40", "subject": "Nobrak"}
    text = "".join(json.dumps(row) + "\n" for row in (*rows, stranger))
    Path("forget.jsonl").write_text(text)
    words = ["forget.jsonl" if w == world.data("forget") else w for w in world.command()]
    assert main([*words, "--out", "run", "--set", "train.steps=2"]) == 0
    said = capsys.readouterr()
    assert "nothing is claimed about it: x40" in said.out + said.err
    context = json.loads(Path("run/evidence/context.json").read_text())
    assert any(note.startswith("1 of 13 forget records was not known") for note in context["notes"])
    assert expunge.verify(Path("run")).ok
