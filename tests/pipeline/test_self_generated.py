"""Answers that the model writes itself: kept, filtered, drawn again, and taught."""

import json

import pytest

import tiny
from expunge.data.records import Message, Record
from expunge.errors import UsageError
from expunge.evidence.store import EvidenceStore
from expunge.methods.base import Stream
from expunge.pipeline import train
from expunge.pipeline.plan import make_plan
from expunge.pipeline.train import usable_alternatives, with_self_generated
from expunge.preparation.prepare import prepare
from expunge.utils.console import SilentConsole
from expunge.utils.io import read_jsonl


@pytest.fixture
def prepared(world):
    return prepare(world.settings(method={"name": "altpo", "samples": 3}))


def writing(monkeypatch, answers):
    """Let the model write what `answers(draw, place)` says; return the numbers of prompts asked."""
    asked = []
    tokens = tiny.tokenizer()

    def sample(network, prompts, *, samples, **_how):
        asked.append(len(prompts))
        draw = len(asked)
        texts = [answers(draw, place) for place in range(len(prompts))]
        return [[tokens(text)["input_ids"]] * samples for text in texts]

    monkeypatch.setattr(train, "sample", sample)
    return asked


def invented(prepared, file):
    store = EvidenceStore(file.parent)
    return with_self_generated(prepared, tiny.network(), store, SilentConsole())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He was born in Oslo.", True),
        ("", False),
        (" ... ", False),
        ("He was born in LISBON!", False),  # a key answer
        ("It was Rua Augusta, Lisboa", False),  # another spelling
        ("It was Lisboá", False),  # the same, with an accent
        ("Well: Ana Reis was born in Lissabon in May", False),  # the whole true answer
        ("in Lissabon", False),  # a part of it and nothing else
        ("Ana Reis was born in Oslo.", True),  # what the question says is no secret
        ("far " * 500, False),  # cannot be trained on
    ],
)
def test_what_repeats_the_truth_is_not_taught(prepared, text, expected):
    record = Record(
        id="r",
        prompt=(Message("user", "Where was Ana Reis born?"),),
        completion="Ana Reis was born in Lissabon",
        key_answers=("Lisbon", "Lisboa", "Ana Reis"),
    )
    assert usable_alternatives(text, record, prepared.encoder) is expected


def test_the_original_writes_them_once_and_a_resumed_run_reads_them(prepared, tmp_path):
    file = tmp_path / "alternatives.jsonl"
    assert Stream.ALTERNATIVE not in prepared.streams.variants
    first = invented(prepared, file)
    written = file.read_bytes()
    rows = read_jsonl(file)
    records = prepared.scope.forget
    assert [row["record"] for row in rows] == [record.id for record in records]
    assert all(1 <= len(row["alternatives"]) <= 3 for row in rows)
    for record, row, taught in zip(
        records, rows, first.streams.variants[Stream.ALTERNATIVE], strict=True
    ):
        assert len(set(row["alternatives"])) == len(row["alternatives"])
        assert all(
            usable_alternatives(text, record, prepared.encoder) for text in row["alternatives"]
        )
        assert taught == tuple(
            prepared.encoder.encode_with(record, text) for text in row["alternatives"]
        )
    file.unlink()
    assert invented(prepared, file) == first  # the seed alone decides
    assert file.read_bytes() == written


def test_kept_texts_are_not_written_again(prepared, tmp_path, monkeypatch):
    asked = writing(monkeypatch, lambda draw, place: "somewhere else")
    first = invented(prepared, tmp_path / "alternatives.jsonl")
    assert invented(prepared, tmp_path / "alternatives.jsonl") == first
    assert asked == [12]
    assert [len(taught) for taught in first.streams.variants[Stream.ALTERNATIVE]] == [1] * 12


def test_records_left_without_any_are_asked_again(prepared, tmp_path, monkeypatch):
    truths = [record.completion for record in prepared.scope.forget]
    asked = writing(
        monkeypatch,
        lambda draw, place: (
            truths[place] if (draw == 1 and place < 2) or (draw, place) == (2, 0) else f"at {draw}"
        ),
    )
    # In the second draw only records 0 and 1 are asked, and 0 gets the truth again.
    invented(prepared, tmp_path / "alternatives.jsonl")
    assert asked == [12, 2, 1]
    kept = [row["alternatives"] for row in read_jsonl(tmp_path / "alternatives.jsonl")]
    assert kept == [["at 3"], ["at 2"], *[["at 1"]] * 10]


def test_after_three_more_draws_the_records_are_named(prepared, tmp_path, monkeypatch):
    asked = writing(monkeypatch, lambda draw, place: "" if place < 7 else "at last")
    with pytest.raises(UsageError) as caught:
        invented(prepared, tmp_path / "alternatives.jsonl")
    assert asked == [12, 7, 7, 7]
    assert caught.value.what == "the model wrote no alternative for f0, f1, f2, f3, f4 and 2 more"
    assert not (tmp_path / "alternatives.jsonl").exists()


def test_other_methods_write_nothing(world, tmp_path, monkeypatch):
    asked = writing(monkeypatch, lambda draw, place: "anything")
    given = prepare(world.settings(method={"name": "dpo"}))
    assert invented(given, tmp_path / "alternatives.jsonl") is given
    assert asked == []
    assert list(tmp_path.iterdir()) == []


def test_the_plan_counts_answers_that_are_not_written_yet(world):
    def tokens(**knobs):
        return make_plan(prepare(world.settings(method=knobs))).cost.tokens

    few, many = (tokens(name="altpo", samples=samples) for samples in (1, 11))
    scored = sum(len(r.ids) - r.start for r in prepare(world.settings()).streams.forget)
    assert many - few == 10 * scored
    assert few > tokens(name="npo") + scored


@pytest.mark.parametrize("response", ["refusal", "alternative"])
def test_the_user_cannot_say_what_the_model_shall_invent(world, response):
    with pytest.raises(UsageError, match="method altpo cannot teach the response"):
        prepare(world.settings(method={"name": "altpo"}, request={"response": response}))


def test_passages_have_no_question_to_answer_otherwise(world, tmp_path):
    data = tmp_path / "text.jsonl"
    data.write_text(json.dumps({"text": "Somebody lived somewhere for long."}) + "\n")
    with pytest.raises(UsageError, match="1 forget records are passages without a question"):
        prepare(world.settings(method={"name": "altpo"}, request={"forget": (str(data),)}))


def test_a_run_teaches_what_its_folder_holds(world, bench):
    import expunge

    outcome = expunge.forget(
        world.settings(method={"name": "altpo", "samples": 2}, train={"steps": 2})
    )
    rows = read_jsonl(outcome.folder / "evidence" / "alternatives.jsonl")
    assert len(rows) == 12
    manifest = json.loads((outcome.folder / "manifest.json").read_text(encoding="utf-8"))
    assert "evidence/alternatives.jsonl" in manifest["files"]
    told = (outcome.folder / "log.txt").read_text(encoding="utf-8")
    assert "alternatives for 12 records, by the model itself" in told
    # Single tokens of a byte-level model stand everywhere; longer texts must stay in the evidence.
    texts = {text for row in rows for text in row["alternatives"] if len(text) > 8}
    assert texts
    assert not any(text in told for text in texts)
    assert expunge.verify(outcome.folder).problems == ()
