"""General text in training: kinds in turn, what is held out, and nothing of the target."""

from collections import Counter

import pytest

import tiny
from expunge.config.request import Request
from expunge.data.corpora import general_passages, general_records, other_kinds
from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoder
from expunge.methods.base import Stream
from expunge.preparation.variants import held_out_text, variants

ENCODER = Encoder(tiny.tokenizer())
FORGET = (
    Record(
        id="paris",
        prompt=(Message("user", "Which city is the capital of France?"),),
        completion="Paris",
        key_answers=("Paris",),
    ),
)
RETAIN = general_records()[:40]


def dealt(forget=FORGET) -> list[str]:
    """Records of the pieces that training draws."""
    streams = variants(
        forget,
        RETAIN,
        Request(forget=("f",), goal="removal"),
        ENCODER,
        encode=ENCODER.encode,
        streams={Stream.GENERAL},
        seed=0,
    )
    return [piece.record.partition("#")[0] for each in streams[Stream.GENERAL] for piece in each]


def names(kinds) -> set[str]:
    """Records of what was encoded; a long one in parts counts once."""
    return {each.record.partition("#")[0] for kind in kinds for each in kind}


def test_kinds_take_turns_and_no_step_draws_what_is_held_out():
    kinds = {
        record.id: record.relation or "prose" for record in (*general_passages(), *other_kinds())
    }
    counts = Counter(kinds.get(name, "questions") for name in dealt())
    assert max(counts.values()) == min(counts.values()) == 40
    held = held_out_text(FORGET, RETAIN, ENCODER)
    assert len(held) == len(counts)
    assert not names(held) & set(dealt())


def test_what_is_retained_is_not_held_out():
    held = names(held_out_text(FORGET, (), ENCODER))
    retained = [record for record in general_records() if record.id in held]
    assert retained
    again = held_out_text(FORGET, retained, ENCODER)
    assert names(again) == held - {r.id for r in retained}


@pytest.mark.parametrize("field", ["key_answers", "subject"])
def test_no_text_touches_the_target(field):
    target = {"key_answers": ("Paris",), "subject": "Paris"}[field]
    forget = Record(id="f", prompt=(), completion="It is there.", **{field: target})
    naming = {r.id for r in general_records() if "Paris" in r.completion}
    assert naming
    held = names(held_out_text((forget,), (), ENCODER))
    assert not naming & (set(dealt((forget,))) | held)
