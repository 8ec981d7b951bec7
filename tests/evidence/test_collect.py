"""What the teacher-forced pass already tells need not be generated, and changes no answer."""

from dataclasses import replace

import pytest
import torch

from expunge.attacks.presets import AUDIT_FORMS
from expunge.data.readers import read
from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoder
from expunge.evidence.collect import Collector, is_rounded, repeated_name
from expunge.evidence.store import EvidenceStore, Unit
from expunge.models import generation
from expunge.models.loading import Source, load
from expunge.models.transformer import Network
from expunge.utils.console import SilentConsole

OTHER_WORDS = [form for form in AUDIT_FORMS if not is_rounded(form)]
SOURCE = Source(device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="module")
def original(world):
    return load(world.original, SOURCE)


def answers(folder, original, records, *, scored, limit=10):
    """Everything that the model answers, by unit."""
    store = EvidenceStore(folder)
    collector = Collector(
        store=store,
        encoder=Encoder(original.tokenizer),
        records={"forget": records},
        max_new_tokens=limit,
        tokens_per_pass=4096,
    )
    with SilentConsole().progress("x", total=9) as bar:
        collector.model(
            original.network,
            "original",
            scored=("forget",) if scored else (),
            asked=("forget",),
            forms=OTHER_WORDS,
            bar=bar,
        )
    names = ["plain", *(form.name for form in OTHER_WORDS)]
    units = [Unit(role="original", split="forget", attack=n, kind="answers") for n in names]
    return {unit.attack: store.answers(unit) for unit in units if store.has(unit)}


@pytest.mark.parametrize("limit", [2, 10])
def test_known_beginnings_change_no_answer(original, world, tmp_path, limit):
    records = read([world.data("forget")]).records
    half_known = [
        replace(record, completion=record.completion[:-1] + "q") if index % 2 else record
        for index, record in enumerate(records)
    ]
    slow = answers(tmp_path / "slow", original, half_known, scored=False, limit=limit)
    fast = answers(tmp_path / "fast", original, half_known, scored=True, limit=limit)
    assert len(fast) == 5
    assert fast == slow


def test_the_teacher_forced_pass_saves_decoding(original, world, tmp_path, monkeypatch):
    steps = []
    real = generation.next_logits

    def counted(network, ids, *rest):
        steps.append(len(ids))
        return real(network, ids, *rest)

    monkeypatch.setattr(generation, "next_logits", counted)
    records = read([world.data("forget")]).records
    answers(tmp_path / "slow", original, records, scored=False)
    slow = sum(steps)
    steps.clear()
    answers(tmp_path / "fast", original, records, scored=True)
    assert sum(steps) < 0.8 * slow


FULL = {
    "host": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    "card": torch.OutOfMemoryError("CUDA out of memory"),
    "python": MemoryError(),
}


def only_so_many(patched, most, error):
    """Let memory be full for passes and batches of more than so many records; count these."""
    refused = []
    batch, further = Network.batch, generation._continue

    def scored(network, records, **given):
        if len(records) > most:
            refused.append("scores")
            raise error
        return batch(network, records, **given)

    def written(network, answers, *rest, **given):
        if len(answers) > most:
            refused.append("answers")
            raise error
        return further(network, answers, *rest, **given)

    patched.setattr(Network, "batch", scored)
    patched.setattr(generation, "_continue", written)
    return refused


@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
def test_passes_shrink_where_memory_is_full_and_say_the_same(
    error, original, world, tmp_path, monkeypatch
):
    records = read([world.data("forget")]).records
    whole = answers(tmp_path / "whole", original, records, scored=True)
    with monkeypatch.context() as patched:
        refused = only_so_many(patched, 2, error)
        found = answers(tmp_path / "small", original, records, scored=True)
    assert {"scores", "answers"} == set(refused)
    assert {test: [a.text for a in rows] for test, rows in found.items()} == {
        test: [a.text for a in rows] for test, rows in whole.items()
    }
    unit = Unit(role="original", split="forget", kind="scores")
    stored = [EvidenceStore(tmp_path / name).scores(unit) for name in ("whole", "small")]
    for one, other in zip(*stored, strict=True):
        assert one.record == other.record
        assert one.logp == pytest.approx(other.logp, abs=1e-4)


@pytest.mark.parametrize(("most", "error"), [(0, FULL["card"]), (2, RuntimeError("shapes"))])
def test_a_record_that_does_not_fit_and_another_fault_are_errors(
    most, error, original, world, tmp_path, monkeypatch
):
    only_so_many(monkeypatch, most, error)
    records = read([world.data("forget")]).records
    with pytest.raises(RuntimeError, match=str(error)):
        answers(tmp_path, original, records, scored=True)
    assert EvidenceStore(tmp_path).units() == []


def test_units_are_written_whole_and_not_asked_again(original, world, tmp_path, monkeypatch):
    records = read([world.data("forget")]).records
    first = answers(tmp_path, original, records, scored=True)
    monkeypatch.setattr(generation, "next_logits", None)  # any decoding would fail
    assert answers(tmp_path, original, records, scored=True) == first


@pytest.mark.parametrize(
    ("question", "answer", "facts", "marked"),
    [
        ("Where does Ann Lee live?", "Ann Lee lives in Oslo.", (), "AnnLee"),
        ("Where does Ann Lee live?", "She lives in Oslo.", (), ""),
        ("Where does he live?", "Ann Lee lives in Oslo.", (), ""),
        ("How does one write to Ann Lee?", "At ann@lee.org, says ANN.", (), "ANN"),
        ("Where is Ann Lee's office?", "Ann's office is in Lee Street.", ("Lee Street",), "Ann"),
    ],
)
def test_tokens_of_a_name_count_as_told_where_the_question_holds_it(
    original, question, answer, facts, marked
):
    encoder = Encoder(original.tokenizer)
    record = Record(
        id="r",
        prompt=(Message("user", question),),
        completion=answer,
        key_answers=facts,
        subject="Ann Lee",
    )
    encoded = encoder.encode(record)
    texts = encoder.texts(encoded)
    found = "".join(texts[place] for place in repeated_name(record, encoded, encoder))
    assert "".join(found.split()) == marked
