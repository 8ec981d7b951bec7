"""Short answers stand for the facts that they state, where most of a set are short."""

import pytest

from expunge.data.convert import to_record, with_short_answers_named


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "Where?", "completion": " In Oslo, Norway!? "}, ("In Oslo, Norway",)),
        (
            {"prompt": "Where?", "completion": "one two three four five."},
            ("one two three four five",),
        ),
        ({"prompt": "Where?", "completion": "one two three four five six"}, ()),
        ({"prompt": "Where?", "completion": "?!"}, ()),
        ({"text": "Oslo"}, ()),
        ({"prompt": "Where?", "completion": "In Oslo", "key_answers": "Oslo"}, ("Oslo",)),
        ({"prompt": "Where?", "completion": "x", "key_answers": ["a", " ", "b"]}, ("a", "b")),
        ({"prompt": "Where?", "completion": "x", "key_answers": '["a", "b"]'}, ("a", "b")),
        ({"prompt": "Where?", "completion": "x", "key_answers": "[a"}, ("[a",)),
    ],
)
def test_key_answers_default_to_a_short_completion(row, expected):
    (found,) = with_short_answers_named([to_record(row, "f:1")])
    assert found.key_answers == expected


@pytest.mark.parametrize(("short", "long", "named"), [(1, 0, 1), (2, 2, 2), (2, 3, 0), (1, 99, 0)])
def test_short_answers_are_key_answers_only_where_they_are_half_of_a_set(short, long, named):
    answers = ["Oslo"] * short + ["It is said to have been in Oslo."] * long
    rows = [{"prompt": f"{n}?", "completion": answer} for n, answer in enumerate(answers)]
    found = with_short_answers_named([to_record(row, "f:1") for row in rows])
    assert sum(record.key_answers == ("Oslo",) for record in found) == named
    given = to_record({"prompt": "?", "completion": "x y", "key_answers": "y"}, "f:2")
    assert with_short_answers_named([*found, given])[-1].key_answers == ("y",)
