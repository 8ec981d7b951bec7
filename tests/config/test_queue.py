"""The queue of a chain: what it says, and what is refused before anything is trained."""

import pytest

from expunge.config.queue import read_queue
from expunge.errors import UsageError

HEAD = """
model = "org/original"
[request]
goal = "removal"
retain = ["keep.jsonl"]
[train]
steps = 7
"""
FIRST = '[[queue]]\nid = "a"\nforget = ["a.jsonl"]\n'


def queue(tmp_path, text):
    path = tmp_path / "queue.toml"
    path.write_text(text, encoding="utf-8")
    return read_queue(path, environ={})


def test_each_request_is_laid_over_the_settings_of_the_file(tmp_path):
    for name in ("a.jsonl", "keep.jsonl", "other.jsonl"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    second = '[[queue]]\nid = "b"\nforget = ["b.jsonl"]\ngoal = "suppression"\n'
    found = queue(
        tmp_path, HEAD + FIRST + second + 'retain = ["other.jsonl"]\n[chain]\nfacts = 3\n'
    )
    one, two = found.requests
    assert found.chain.facts == 3
    assert (one.request.id, two.request.id) == ("a", "b")
    assert one.request.forget == (str(tmp_path / "a.jsonl"),)
    assert two.request.forget == ("b.jsonl",)  # not there: the first checks say so
    assert (one.request.goal, two.request.goal) == ("removal", "suppression")
    assert one.request.retain == (str(tmp_path / "keep.jsonl"),)
    assert two.request.retain == (str(tmp_path / "other.jsonl"),)
    assert one.train.steps == two.train.steps == 7


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (HEAD, "no-queue"),
        ('queue = "a"\n' + HEAD, "no-queue"),
        (HEAD + FIRST + FIRST, "request-twice"),
        (HEAD + "[[queue]]\nforget = ['a']", "invalid-queue"),
        (HEAD + "[[queue]]\nid = 'a'", "invalid-queue"),
        (HEAD + FIRST + "colour = 1", "invalid-queue"),
        (HEAD + FIRST + "[chain]\nfacts = 0", "invalid-queue"),
        (HEAD + FIRST + "[chain]\nprobes = 3", "invalid-queue"),
        ("[request]\ngoal = 'removal'\n" + FIRST, "no-model"),
        ("model = 'm'\n" + FIRST, "no-goal"),
        (HEAD.replace("steps", "stpes") + FIRST, "unknown-key"),
        (HEAD + "[[queue]", "invalid-toml"),
    ],
)
def test_a_queue_that_cannot_be_meant_is_refused(text, code, tmp_path):
    with pytest.raises(UsageError) as caught:
        queue(tmp_path, text)
    assert caught.value.code == code
    assert "queue.toml" in str(caught.value) or code in ("no-model", "no-goal")
