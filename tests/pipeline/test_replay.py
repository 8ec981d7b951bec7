"""Replay: the original's own answers about what stays, kept in step with the retain set."""

from dataclasses import replace

import pytest

import tiny
from expunge.data.records import Message, Record
from expunge.evidence.store import EvidenceStore
from expunge.pipeline import replay
from expunge.pipeline.replay import REPLAY_FILE, with_replay
from expunge.preparation.prepare import prepare
from expunge.utils.console import SilentConsole
from expunge.utils.io import read_jsonl


def record(name: str, subject: str, answer: str) -> Record:
    prompt = (Message("user", f"Where is {subject}?"),)
    return Record(id=name, prompt=prompt, completion=answer, subject=subject)


FORGET = (record("f", "Zorvex", "in Bergen"),)
WHO = (Message("user", "Who is Plimko?"),)
KEPT = (
    Record(id="a", prompt=WHO, completion="a king", subject="Plimko"),
    record("b", "Quandel", "in Oslo"),
)
ASKED = {"Where is Plimko?", "Who is Quandel?"}


@pytest.fixture
def prepared(world):
    found = prepare(world.settings(method={"name": "counterfactual"}))
    scope = replace(
        found.scope, forget=FORGET, retain=KEPT, neighbours=(), held_out=frozenset[str]()
    )
    retain = tuple(map(found.encoder.encode, KEPT))
    variants = {
        stream: some[: len(KEPT)] if stream.side == "retain" else some
        for stream, some in found.streams.variants.items()
    }
    return replace(
        found, scope=scope, streams=replace(found.streams, retain=retain, variants=variants)
    )


def replayed(prepared, folder):
    return with_replay(prepared, tiny.network(), EvidenceStore(folder), SilentConsole())


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({}, ["a lake", "a lake"]),
        ({"Where is Plimko?": "in Bergen"}, ["a lake"]),  # states what must go
        ({"Where is Plimko?": ""}, ["a lake"]),
        ({"Who is Quandel?": "a " * 400}, ["a lake"]),  # does not end
    ],
)
def test_what_the_original_says_is_kept_unless_it_tells_of_the_forget_set(
    prepared, tmp_path, monkeypatch, said, kept
):
    tokens = tiny.tokenizer()

    def greedy(_network, prompts, *, max_new_tokens, **_how):
        questions = [prepared.encoder.decode(prompt) for prompt in prompts]
        texts = [
            next((text for q, text in said.items() if q in asked), "a lake") for asked in questions
        ]
        return [tuple(tokens(text)["input_ids"][:max_new_tokens]) for text in texts]

    monkeypatch.setattr(replay, "greedy", greedy)
    found = replayed(prepared, tmp_path).streams
    texts = [prepared.encoder.decode(each.ids[each.start :]).strip() for each in found.replay]
    assert texts == kept
    whole = found.with_replay()
    assert whole.retain == (*found.retain, *found.replay)
    for stream, some in whole.variants.items():
        if stream.side == "retain":
            assert len(some) == len(whole.retain)
            assert some[len(found.retain)] == some[0]


def test_a_resumed_run_reads_what_was_written(prepared, tmp_path, monkeypatch):
    first = replayed(prepared, tmp_path)
    assert {row["question"] for row in read_jsonl(tmp_path / REPLAY_FILE)} == ASKED
    monkeypatch.delattr(replay, "greedy")  # nothing is asked again
    assert replayed(prepared, tmp_path) == first


def test_methods_without_replay_are_left_alone(prepared, tmp_path):
    none = replace(prepared, method=replace(prepared.method, replay=0))
    assert replayed(none, tmp_path) is none
    assert not (tmp_path / REPLAY_FILE).exists()


def test_what_the_controller_reads_is_asked_like_anything_that_nobody_showed(prepared, tmp_path):
    who = replace(KEPT[0], id="c", prompt=(Message("user", "Who is Quandel?"),), subject="Quandel")
    others = (record("d", "Plimko", "in Oslo"), record("e", "Tarvo", "in Oslo"))
    scope = replace(prepared.scope, retain=(*KEPT, who, *others))
    replayed(replace(prepared, scope=scope), tmp_path)
    asked = {row["question"] for row in read_jsonl(tmp_path / REPLAY_FILE)}
    assert KEPT[0].question in asked  # every fifth record, from the first
    assert asked.isdisjoint({each.question for each in scope.retain[1:]})
