"""Replay: the original's own answers about what stays, kept in step with the retain set."""

from dataclasses import replace

import pytest

import tiny
from expunge.data.records import Message, Record
from expunge.evidence.store import EvidenceStore
from expunge.methods import build
from expunge.methods.base import Stream
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


def answers(prepared, said):
    """Return a stand-in for `greedy` that says `said` by question, else `a lake`."""
    tokens = tiny.tokenizer()

    def greedy(_network, prompts, *, max_new_tokens, **_how):
        questions = [prepared.encoder.decode(prompt) for prompt in prompts]
        texts = [
            next((text for q, text in said.items() if q in asked), "a lake") for asked in questions
        ]
        return [tuple(tokens(text)["input_ids"][:max_new_tokens]) for text in texts]

    return greedy


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
    monkeypatch.setattr(replay, "greedy", answers(prepared, said))
    found = replayed(prepared, tmp_path).streams
    texts = [prepared.encoder.decode(each.ids[each.start :]).strip() for each in found.replay]
    assert texts == kept
    whole = found.with_replay()
    assert whole.retain == (*found.retain, *found.replay)
    for stream, some in whole.variants.items():
        if stream.side == "retain":
            assert len(some) == len(whole.retain)
            assert some[len(found.retain)] == some[0]


def test_what_the_controller_holds_out_does_not_decide_what_is_replayed(
    prepared, tmp_path, monkeypatch
):
    """Else records that no step has seen would show how a run with them fares."""
    monkeypatch.setattr(replay, "greedy", answers(prepared, {"Where is Plimko?": "in Bergen"}))
    forget = (record("f", "Zorvex", "in Bergen, behind the lighthouse"),)
    more = [Record(id=f"{n}", prompt=WHO, completion="a king", subject="Plimko") for n in "cd"]
    held = record("h", "Yaltro", "in Bergen")  # the first of five
    scope = replace(prepared.scope, forget=forget, retain=(held, *KEPT, *more))
    found = replayed(replace(prepared, scope=scope), tmp_path).streams
    texts = [prepared.encoder.decode(each.ids[each.start :]).strip() for each in found.replay]
    assert texts == ["a lake"]


def test_a_resumed_run_reads_what_was_written(prepared, tmp_path, monkeypatch):
    first = replayed(prepared, tmp_path)
    assert {row["question"] for row in read_jsonl(tmp_path / REPLAY_FILE)} == ASKED
    monkeypatch.delattr(replay, "greedy")  # nothing is asked again
    assert replayed(prepared, tmp_path) == first


def test_methods_without_replay_are_left_alone(prepared, tmp_path):
    none = replace(prepared, method=build("npo", {}))
    assert replayed(none, tmp_path) is none
    assert not (tmp_path / REPLAY_FILE).exists()


@pytest.mark.parametrize(
    ("said", "taught"),
    [
        ({}, ["a lake", "in Oslo"]),
        ({"Where is Plimko?": "Plimko"}, ["Zorvex", "in Oslo"]),
        ({"Where is Plimko?": "in Bergen"}, ["in Oslo"]),  # what must go
    ],
)
def test_the_subject_is_taught_what_is_said_of_others(
    prepared, tmp_path, monkeypatch, said, taught
):
    monkeypatch.setattr(replay, "greedy", answers(prepared, said))
    found = replayed(prepared, tmp_path)
    (some,) = found.streams.variants.get(Stream.OTHERS, ((),))
    assert [prepared.encoder.decode(each.ids[each.start :]).strip() for each in some] == taught
    assert all(FORGET[0].question in prepared.encoder.decode(each.ids) for each in some)
    assert (found.method.others > 0) is bool(taught)


def test_where_nothing_is_kept_nobody_is_asked(prepared, tmp_path):
    scope = replace(prepared.scope, retain=())
    streams = replace(prepared.streams, retain=())
    found = replayed(replace(prepared, scope=scope, streams=streams), tmp_path)
    assert found.streams == streams
    assert found.method.others == 0
    assert not (tmp_path / REPLAY_FILE).exists()


def test_an_answer_that_is_that_of_the_record_is_not_taught(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(replay, "greedy", answers(prepared, {"Where is Plimko?": "in Oslo"}))
    scope = replace(prepared.scope, forget=(record("f", "Zorvex", "in Oslo"),))
    found = replayed(replace(prepared, scope=scope), tmp_path)
    assert Stream.OTHERS not in found.streams.variants
    assert found.method.others == 0


def test_where_the_request_says_what_to_answer_no_other_answer_is_taught(prepared, tmp_path):
    wanted = replace(prepared, method=replace(prepared.method, teach=2.0, replay=0))
    assert Stream.OTHERS not in replayed(wanted, tmp_path).streams.variants
    streams = {s for term in wanted.method.terms(wanted.shape) for s in term.streams}
    assert Stream.ALTERNATIVE in streams
    assert Stream.OTHERS not in streams


def test_what_the_controller_reads_is_asked_like_anything_that_nobody_showed(prepared, tmp_path):
    who = replace(KEPT[0], id="c", prompt=(Message("user", "Who is Quandel?"),), subject="Quandel")
    others = (record("d", "Plimko", "in Oslo"), record("e", "Tarvo", "in Oslo"))
    scope = replace(prepared.scope, retain=(*KEPT, who, *others))
    replayed(replace(prepared, scope=scope), tmp_path)
    asked = {row["question"] for row in read_jsonl(tmp_path / REPLAY_FILE)}
    assert KEPT[0].question in asked  # every fifth record, from the first
    assert asked.isdisjoint({each.question for each in scope.retain[1:]})
