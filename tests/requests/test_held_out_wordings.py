"""Wordings that no training uses reach the audit: a fact that leaks only there is found."""

import json
import random
from itertools import product

import pytest

import tiny
from expunge.config.resolve import resolve
from expunge.metrics.outcomes import Status
from expunge.pipeline.forget import audit
from expunge.pipeline.request import request
from expunge.requests.names import SearchedPerson
from tiny_world import network_knowing

PEOPLE = ("Elin Aro", "Ivo Lund")
FIELDS = ("pet", "car", "bank", "doctor", "hobby", "street")
CHAT_TURN = 1
"""Place of the chat turn among the held-out wordings; the first is a question of every audit."""


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def write_request_about(name, bench):
    rng = random.Random(3)
    texts = [
        {"text": f"{each}'s {field} is {''.join(rng.choices('jkqvxzwae', k=5))}."}
        for field, each in product(FIELDS, PEOPLE)
    ]
    corpus = write(bench / "corpus.jsonl", texts)
    return request(SearchedPerson(name=name), [corpus], out=bench / "request", goal="removal")


def taught(folder, *files):
    return str(tiny.save(folder, network_knowing(files).model))


def forgotten(rows):
    """Return what a model is taught that says `No.` to every wording but the chat turn."""
    for row in rows:
        for place, text in enumerate(row["paraphrases"]):
            said = row["completion"] if place == CHAT_TURN else "No."
            yield {"prompt": text, "completion": said}
        yield {"prompt": row["prompt"], "completion": "No."}


@pytest.mark.slow
def test_facts_that_leak_in_one_held_out_wording_are_found(bench):
    # No model is asked for the request: so no cloze is trained, and all wordings are held out.
    written = write_request_about(PEOPLE[0], bench)
    rows = rows_of(written.folder / "erase.jsonl")
    assert [len(row["paraphrases"]) for row in rows] == [3] * len(FIELDS)
    near = str(written.folder / "neighbours.jsonl")
    unstated = write(bench / "unstated.jsonl", [{"prompt": "Who?", "completion": "Nobody."}])
    leaking = write(bench / "leaking.jsonl", forgotten(rows))
    flags = {
        "model": taught(bench / "original", str(written.folder / "erase.jsonl"), near),
        "request.gold": [taught(bench / "gold", near)],
        "request.unstated": [unstated],
        "request.retain": "none",
        "device": "cpu",
        "offline": True,
        "out": str(bench / "run"),
    }
    settings = resolve(flags, config=written.file, environ={}, start=bench).settings
    results = audit(settings, model=taught(bench / "leaking", leaking, near)).results
    gates = {gate.name: gate for gate in results.gates}
    recovered = gates["recovery by paraphrase"]
    assert (recovered.status, recovered.value, recovered.n) == (Status.FAIL, 1.0, len(FIELDS))
    # Neither the plain question nor the first wording, which every audit asks, finds a fact.
    assert gates["key-fact leak"].value == gates["leak under paraphrase"].value == 0
    asked = [each for each in results.scores if each.split == "unstated"]
    assert {"original", "unlearned"} <= {each.role for each in asked if each.n}
    assert {each.higher_is_better for each in asked if each.metric == "key-fact"} <= {False}
    assert not any("unstated" in name for name in gates)
