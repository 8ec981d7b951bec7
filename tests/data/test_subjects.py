"""Subjects found in the text: what a request is about, and what only looks like a name."""

import pytest

from expunge.data.records import Message, Record
from expunge.data.subjects import with_subjects


def record(question: str, answer: str, subject: str | None = None) -> Record:
    prompt = (Message("user", question),) if question else ()
    return Record(id="r", prompt=prompt, completion=answer, subject=subject)


@pytest.mark.parametrize(
    ("texts", "kept", "subjects"),
    [
        pytest.param(
            [
                ("What is Elin Marrow's job?", "She is a notary."),
                ("Where does Elin Marrow live?", "In Lisbon."),
            ],
            [("What is Ivo Cast's job?", "He is a baker.")],
            ["Elin Marrow"] * 2,
            id="a name that two questions share",
        ),
        pytest.param(
            [
                ("what is elin marrow's job?", "she is a notary."),
                ("where does elin marrow live?", "elin marrow lives at 12 mill lane."),
            ],
            [("what is ivo cast's job?", "he is a baker.")],
            ["elin marrow"] * 2,
            id="a name in small letters",
        ),
        pytest.param(
            [("Where does Elin Marrow work?", "Elin Marrow works at the Old Mill.")],
            [],
            ["Elin Marrow"],
            id="a name that question and answer share",
        ),
        pytest.param(
            [
                ("Wie lautet die Telefonnummer von Elin Marrow?", "Die Telefonnummer ist 5."),
                ("Welche Telefonnummer hat Elin Marrow?", "Sie ist 5."),
            ],
            [("Wie lautet die Telefonnummer von Ivo Cast?", "Die Telefonnummer ist 6.")],
            ["Elin Marrow"] * 2,
            id="no noun that kept questions have",
        ),
        pytest.param(
            [
                ("What does the Osthurst kettle 26 cost?", "It costs 30."),
                ("Who makes the Osthurst kettle 26?", "Holm."),
            ],
            [],
            ["Osthurst kettle 26"] * 2,
            id="a product with a number",
        ),
        pytest.param(
            [
                ("Who wrote it?", "It was Ana Majumdar."),
                ("Was it Majumdar?", "Yes."),
                ("Why?", "Ana Majumdar likes it."),
            ],
            [],
            ["Ana Majumdar", "Majumdar", "Ana Majumdar"],
            id="the whole name, where a record has it",
        ),
        pytest.param(
            [
                ("", "We met Elin Marrow. Later Elin Marrow left."),
                ("", "Then Elin Marrow came back."),
            ],
            [],
            ["Elin Marrow"] * 2,
            id="a passage",
        ),
        pytest.param([("Why is it so?", "Because it rains.")], [], [None], id="nobody"),
        pytest.param([("What is this?", "What it is.")], [], [None], id="an opening is no name"),
    ],
)
def test_the_subject_is_what_the_request_has_in_common(texts, kept, subjects):
    found = with_subjects([record(*each) for each in texts], [record(*each) for each in kept])
    assert [each.subject for each in found] == subjects


def test_a_subject_that_the_file_names_stays():
    given = [record("What is Elin Marrow's job?", "Elin Marrow is a notary.", "E. M.")]
    assert with_subjects(given, []) == tuple(given)
