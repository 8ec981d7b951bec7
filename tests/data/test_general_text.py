"""General text of the audit: what ships is what the script writes, and training never reads it."""

from collections import Counter
from pathlib import Path

import pytest

import make_general_text
import tiny
from expunge.data.corpora import (
    KINDS,
    general_passages,
    general_records,
    general_text,
    other_kinds,
)
from expunge.data.splits import normalise, overlaps
from expunge.data.tokenization import Encoder
from expunge.evidence.store import Answer, Item
from expunge.metrics.answer_quality import follows, form_missed

FILE = Path(make_general_text.OUT)


def test_what_ships_is_what_the_script_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(make_general_text, "OUT", tmp_path / "corpora" / "again.jsonl")
    make_general_text.main()
    assert make_general_text.OUT.read_bytes() == FILE.read_bytes()
    assert FILE.stat().st_size < 120_000


def test_every_kind_has_enough_short_passages_and_none_stands_twice():
    records = general_text()
    counts = Counter(record.relation for record in records)
    assert tuple(counts) == KINDS
    assert sum(counts.values()) >= 300
    assert min(counts.values()) >= 50
    assert len({(record.question, record.completion) for record in records}) == len(records)
    # 64 tokens of a tokenizer for English; German and French words cost about twice as many.
    words = [len(record.completion.split()) for record in records]
    assert max(words) <= 45
    assert all(bool(record.prompt) == (record.relation == "instructions") for record in records)


def test_nothing_is_measured_on_what_training_keeps():
    measured = general_text()
    trained = (*general_records(), *general_passages(), *other_kinds())
    assert overlaps(trained, measured) == []
    same = {normalise(record.completion) for record in trained}
    assert not same & {normalise(record.completion) for record in measured if not record.prompt}
    asked = {normalise(record.question) for record in trained}
    assert not asked & {normalise(record.question) for record in measured if record.prompt}


def test_every_passage_fits_a_tiny_model():
    encoder = Encoder(tiny.tokenizer())
    assert all(len(encoder.encode(record).ids) < 512 for record in general_text())


def test_every_shipped_answer_has_the_form_that_its_instruction_asks_for():
    asked = [record for record in general_text() if record.form is not None]
    assert len(asked) == 50
    assert all(follows(record.form, record.completion) for record in asked)


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("upper-case", " RIVER\n", "River"),
        ("number", "-12.5", "12 apples"),
        ("yes-no", "Yes.", "Yes, it is"),
        ("question", "Did Ana win?", "Ana won."),
        ("items-3", "a, b, c", "a, b"),
        ("items-2", "a, b.", "a, "),
        ("words-2", "red red", "red"),
        ("dashes-2", "- a\n- b", "- a\nb"),
        ("json-name-age", '{"age": 3, "name": "Bo"}', '{"name": "Bo"}'),
        ("json-name-age", '{"age": 3, "name": "Bo"}', "name: Bo, age: 3"),
        ("json-name-age", '{"age": 3, "name": "Bo"}', '["name", "age"]'),
    ],
)
def test_forms(form, good, bad):
    assert follows(form, good)
    assert not follows(form, bad)
    assert not follows(form, "")
    item = Item(record="r", split="generic", question="q", answer=good, form=form)
    missed = [form_missed(Answer(record="r", text=text), item) for text in (good, bad)]
    assert missed == [0.0, 1.0]


def test_no_form_is_asked_for_or_none_is_known():
    item = Item(record="r", split="generic", question="q", answer="a")
    assert form_missed(Answer(record="r", text="a"), item) is None
    with pytest.raises(ValueError, match="sonnet"):
        follows("sonnet", "a")
