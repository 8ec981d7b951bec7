"""Evidence on disk: a unit's name says all that tells it apart, and comes back as it went."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.errors import InputError
from expunge.evidence.context import AuditContext, Policy
from expunge.evidence.store import (
    Answer,
    Choices,
    EvidenceStore,
    Layers,
    Scores,
    Unit,
)
from expunge.utils.io import read_json, write_json

UNITS = st.builds(
    Unit,
    role=st.sampled_from(["original", "gold-0", "ladder-0.25"]),
    split=st.sampled_from(["forget", "control"]),
    attack=st.sampled_from(["plain", "prefill-25", "my_prompts-2", "seeds-3x"]),
    kind=st.sampled_from(["scores", "answers", "choices", "layers"]),
    precision=st.sampled_from(["native", "int8", "int4", "nf4", "q4_0", "bf16"]),
    decoding=st.sampled_from(["greedy", "sample-T1", "sample-T0_7", "beam-20"]),
    seed=st.integers(0, 99),
)
ROWS = {
    "scores": Scores(
        record="r", logp=(-0.5, -1.25), hit=(True, False), z=(1.0, 0.5), ends=True, zlib=9
    ),
    "answers": Answer(record="r", text="Lagos", given="In", nll=1.5),
    "choices": Choices(record="r", logp=(-1.5, -2.25), tokens=(2, 3), correct=1),
    "layers": Layers(record="r", values=(0.5, 0.25)),
}


def context(**changes) -> AuditContext:
    usual = {
        "request": "x",
        "goal": "removal",
        "tier": "G2",
        "threat_model": "T1",
        "level": "quick",
        "golds": ("gold-0",),
        "adapter": False,
        "seed": 0,
        "policy": Policy(),
    }
    return AuditContext(**{**usual, **changes})


@given(UNITS)
def test_a_name_tells_the_whole_unit(unit):
    assert Unit.parse(unit.filename) == unit
    assert Unit.under(unit.test, role=unit.role, split=unit.split, kind=unit.kind) == unit


@given(UNITS, UNITS)
def test_two_units_never_share_a_name(one, other):
    assert (one.filename == other.filename) == (one == other)


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ({}, "original.forget.plain.scores.jsonl"),
        ({"precision": "int4"}, "original.forget.int4.scores.jsonl"),
        (
            {"attack": "prefill-25", "precision": "int4", "decoding": "sample-T0_7", "seed": 3},
            "original.forget.prefill-25@int4@sample-T0_7@seed-3.scores.jsonl",
        ),
    ],
)
def test_names_say_what_is_not_usual(unit, name):
    assert Unit(role="original", split="forget", kind="scores", **unit).filename == name


@pytest.mark.parametrize(
    "part",
    [
        {"attack": "int4"},
        {"attack": "seed-1"},
        {"attack": "sample-T1"},
        {"attack": "greedy"},
        {"attack": "a.b"},
        {"attack": "a@b"},
        {"precision": "coarse"},
        {"decoding": "hot"},
        {"split": "for/get"},
        {"role": "a/b"},
        {"seed": -1},
    ],
)
def test_parts_that_could_be_mistaken_are_refused(part):
    with pytest.raises(ValueError, match=r"cannot be|is no"):
        Unit(**{"role": "original", "split": "forget", "kind": "scores", **part})


@pytest.mark.parametrize("name", ["plain@int4", "int4@prefill-25", "", "seed-01", "a@b"])
def test_only_the_one_spelling_of_a_test_is_read(name):
    with pytest.raises(ValueError, match="name"):
        Unit.under(name, role="original", split="forget", kind="scores")


def test_other_files_are_not_units(tmp_path):
    store = EvidenceStore(tmp_path)
    store.write_items([])
    (tmp_path / "some.other.kind.of.jsonl").write_text("{}\n")
    assert store.units() == []


@pytest.mark.parametrize("kind", ROWS)
def test_rows_come_back_as_they_went(tmp_path, kind):
    store, unit = EvidenceStore(tmp_path), Unit(role="gold-0", split="forget", kind=kind)
    store.write(unit, [ROWS[kind]])
    assert store.rows(unit) == [ROWS[kind]]
    assert store.units() == [unit]
    other = next(row for name, row in ROWS.items() if name != kind)
    with pytest.raises(ValueError, match="takes rows of type"):
        store.write(unit, [other])
    assert store.rows(unit) == [ROWS[kind]]


def test_numbers_that_are_none_are_refused(tmp_path):
    store = EvidenceStore(tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        store.write(
            Unit(role="gold-0", split="forget", kind="layers"),
            [Layers(record="r", values=(math.nan,))],
        )


@pytest.mark.parametrize("kind", ["scores", "choices"])
def test_a_log_probability_above_zero_is_damage(tmp_path, kind):
    store, unit = EvidenceStore(tmp_path), Unit(role="gold-0", split="forget", kind=kind)
    store.write(unit, [replace(ROWS[kind], logp=(-0.5, 800.0))])
    with pytest.raises(InputError, match="damaged-evidence"):
        store.rows(unit)


def test_a_role_keeps_its_weights(tmp_path):
    store = EvidenceStore(tmp_path)
    store.write_context(context())
    store.identify("original", "a" * 64)
    store.identify("original", "a" * 64)
    store.identify("gold-0", "b" * 64)
    assert store.context().models == {"gold-0": "b" * 64, "original": "a" * 64}
    with pytest.raises(InputError, match="other weights") as error:
        store.identify("original", "b" * 64)
    assert error.value.code == "evidence-of-another-model"


def test_another_layout_is_refused(tmp_path):
    store = EvidenceStore(tmp_path)
    store.write_context(context())
    row = read_json(tmp_path / "context.json")
    write_json(tmp_path / "context.json", {k: v for k, v in row.items() if k != "schema"})
    with pytest.raises(InputError, match="this version reads"):
        store.context()
