"""Variants of the records to forget: whom a lesson is for, and whom not."""

import pytest

import tiny
from expunge.config.request import Request
from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoder
from expunge.methods.base import Stream
from expunge.preparation.variants import variants

ENCODER = Encoder(tiny.tokenizer(), "auto", max_length=512)
REQUEST = Request(goal="edit", response="alternative", forget=("forget.jsonl",))


def record(question: str, answer: str, subject: str | None) -> Record:
    prompt = (Message("user", question),)
    new = answer.replace("Lisbon", "Oslo")
    return Record(id="r", prompt=prompt, completion=answer, subject=subject, alternatives=(new,))


BORN = record("Where was Elin Marrow born?", "Elin Marrow was born in Lisbon.", "Elin Marrow")
NOBODY = record("Where?", "In Lisbon.", None)


@pytest.mark.parametrize(("given", "told"), [(BORN, 6), (NOBODY, 0)], ids=["named", "nobody"])
def test_half_of_the_namesakes_are_asked_whether_the_lesson_is_theirs(given, told):
    streams = {Stream.NAMESAKE, Stream.ALTERNATIVE}
    found = variants(
        (given,), (), REQUEST, ENCODER, encode=ENCODER.encode, streams=streams, seed=0, itself=True
    )
    (lesson,) = found[Stream.ALTERNATIVE][0]
    asked = found[Stream.NAMESAKE][0]
    texts = [ENCODER.decode(each.ids) for each in asked]
    assert lesson.ids not in [each.ids for each in asked]
    assert [sum(town in text for text in texts) for town in ("Oslo", "Lisbon")] == [told, told or 1]
    assert all(
        set(e.secret) == {-1} for e, text in zip(asked, texts, strict=True) if "Oslo" in text
    )
