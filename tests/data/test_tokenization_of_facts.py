"""What of an answer is forgotten when only its fact is: the tokens of the key answers."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.data.convert import to_record
from expunge.data.tokenization import Encoder
from tokenizers_for_tests import BARE, CHATML, byte_tokenizer

RECORD = to_record({"id": "q", "question": "Where is it?", "answer": "In Oslo. Once."}, "f:1")


def fact_text(encoder, record):
    fact = encoder.encode_fact(record)
    return encoder.decode(fact.ids[fact.start :])


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (("Oslo",), "Oslo"),
        (("oslo",), "Oslo"),
        (("Oslo", "the capital"), "Oslo"),
        (("Oslo", "Once"), "Oslo. Once"),
        (("Once", "In"), "In Oslo. Once"),
        (("Bergen",), "In Oslo. Once."),
        ((), "In Oslo. Once."),
    ],
    ids=["one", "case", "alias", "two", "from the first token", "not in the answer", "no key"],
)
def test_fact_is_what_the_key_answers_span(keys, expected):
    encoder = Encoder(byte_tokenizer())
    assert fact_text(encoder, replace(RECORD, key_answers=keys)) == expected


def test_what_stands_before_the_fact_is_read_and_what_follows_is_left_out():
    encoder = Encoder(byte_tokenizer())
    record = replace(RECORD, key_answers=("Oslo",))
    whole, fact = encoder.encode(record), encoder.encode_fact(record)
    assert fact.ids == whole.ids[: len(fact.ids)]
    assert encoder.decode(fact.ids[whole.start : fact.start]) == "In"
    assert whole.ends
    assert not fact.ends


def test_end_of_turn_stays_scored_where_the_whole_answer_is_the_fact():
    encoder = Encoder(byte_tokenizer())
    record = replace(RECORD, key_answers=())
    assert encoder.encode_fact(record) == encoder.encode(record)


@settings(max_examples=60, deadline=None)
@given(
    before=st.text("ab ,é中", max_size=8),
    fact=st.text("xyé中1", min_size=1, max_size=6),
    after=st.text("ab .é", max_size=8),
    template=st.sampled_from([CHATML, BARE, None]),
)
def test_scored_tokens_always_hold_the_fact(before, fact, after, template):
    encoder = Encoder(byte_tokenizer(template))
    record = replace(RECORD, completion=before + fact + after, key_answers=(fact,))
    whole, found = encoder.encode(record), encoder.encode_fact(record)
    assert whole.start <= found.start < len(found.ids) <= len(whole.ids)
    assert fact in encoder.decode(found.ids[found.start :])
