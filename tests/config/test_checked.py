"""Settings built in Python: a mistake is named in the words of this package."""

import pytest
from pydantic import ValidationError

from expunge import ExpungeError, Request, Settings

GOOD = {"goal": "removal", "forget": ("a.jsonl",)}
SETTINGS = {"model": "org/model", "request": Request(**GOOD)}
MISTAKES = [
    (Request, {**GOOD, "goal": "remove"}, "invalid-value", "fix: goal: removal, suppression"),
    (Request, {**GOOD, "neighbors": ()}, "unknown-key", "did you mean `neighbours`?"),
    (Request, {"goal": "removal"}, "missing-value", "fix: forget: data to forget"),
    (Request, {**GOOD, "tier": "G1"}, "invalid-value", "request.gold names none"),
    (Settings, {**SETTINGS, "train": {"lrr": 1}}, "unknown-key", "did you mean `lr`?"),
    (Settings, {**SETTINGS, "train": {"lr": "x"}}, "invalid-value", "`train.lr` of Settings"),
    (Settings, {**SETTINGS, "trian": {}}, "unknown-key", "did you mean `train`?"),
]


@pytest.mark.parametrize(("kind", "arguments", "code", "said"), MISTAKES)
def test_a_wrong_argument_is_an_error_of_this_package(kind, arguments, code, said):
    with pytest.raises(ExpungeError) as found:
        kind(**arguments)
    assert found.value.code == code
    assert said in str(found.value)
    assert found.value.__cause__ is found.value.__context__ is None


def test_a_tree_that_is_read_keeps_the_error_with_places():
    with pytest.raises(ValidationError) as found:
        Settings.model_validate({**SETTINGS, "train": {"lr": "x", "rank": 0}})
    assert [error["loc"] for error in found.value.errors()] == [("train", "lr"), ("train", "rank")]
