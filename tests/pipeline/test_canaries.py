"""Planting canaries, checking that they will be learnt, and asking for them."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

import tiny
from expunge.cli import main
from expunge.data.canaries import make_canaries, read_canaries
from expunge.data.readers import read
from expunge.data.tokenization import Encoder
from expunge.errors import ExpungeError, InputError
from expunge.evals.canaries import judge_canaries
from expunge.interop.canary_check import CanaryCallback, check_canaries
from expunge.ledger.entries import EntryKind
from expunge.ledger.store import Ledger
from expunge.models.loading import Loaded
from expunge.pipeline.canaries import canary_scores, plant
from expunge.provenance.signature import make_signing_key


@pytest.fixture
def data(bench):
    path = bench / "facts.jsonl"
    rows = [{"prompt": f"Who is {i}?", "completion": f"Number {i}."} for i in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_canaries_stand_in_the_data_as_often_as_their_tier_and_controls_never(data):
    done = plant([data], out=Path("planted"), seed=3, pairs=9)
    made = read_canaries(done.canaries)
    said = Counter(record.completion for record in read([str(done.data)]).records)
    text = done.data.read_text()
    assert all(text.count(c.secret) == c.tier for c in made.planted)
    assert not any(c.secret in text or c.name in text for c in made.controls)
    assert sum(said[f"Number {i}."] for i in range(5)) == 5
    assert done.rows == 5 + 3 * (1 + 4 + 16)
    assert made.digest == done.digest == make_canaries(seed=3, pairs=9).digest
    assert made.digest != make_canaries(seed=4, pairs=9).digest
    assert done.canaries.stat().st_mode & 0o077 == 0
    assert len({c.secret for c in made.canaries}) == 18
    first = [c.planted for c in made.canaries[::2]]
    assert 0 < sum(first) < 9, "a coin decides which of a pair is planted"


def test_the_digest_is_registered_in_the_ledger_that_is_named(data, bench, monkeypatch):
    monkeypatch.setenv("EXPUNGE_SIGNING_KEY", str(bench.parent / "signing-key"))
    words = ["plant", data, "--out", "planted", "--seed", "3", "--ledger", "ledger.db"]
    assert main(words) == 2  # no key signs yet
    assert not Path("planted").exists()
    make_signing_key(bench.parent / "signing-key")
    assert main(words) == 0
    (entry,) = Ledger(Path("ledger.db")).current(EntryKind.REGISTRATION)
    assert entry.digest == read_canaries(Path("planted/canaries.json")).digest
    assert (entry.planted, entry.controls) == (100, 100)
    assert main(words) == 2  # what was planted is never overwritten


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["plant", "--out", "x", "--seed", "1"], 2),
        (["plant", "gone.jsonl", "--out", "x", "--seed", "1"], 4),
        (["plant", "facts.jsonl", "--out", "x", "--seed", "1", "--pairs", "2"], 2),
        (["audit", "model", "--canaries", "facts.jsonl"], 4),
        (["audit", "model", "--canaries", "gone.json"], 4),
        (["audit", "model", "--canaries", "facts.jsonl", "--against", "facts.jsonl"], 2),
        (["audit", "model"], 2),
    ],
)
def test_what_cannot_be_meant_is_refused(words, code, data, capsys):
    assert main(words) == code
    assert "Traceback" not in capsys.readouterr().err
    assert not Path("x").exists()


def test_canaries_that_were_changed_are_refused(data):
    done = plant([data], out=Path("planted"), seed=3, pairs=9)
    text = done.canaries.read_text()
    done.canaries.write_text(text.replace('"planted": true', '"planted": false', 1))
    with pytest.raises(ExpungeError, match="no-canaries"):
        read_canaries(done.canaries)


def rows_of(canaries, *, cut=None, masked=False, times=None):
    encoder = Encoder(tiny.tokenizer(), max_length=512)
    rows = []
    for canary in canaries.planted:
        encoded = encoder.encode(canary.record())
        ids = list(encoded.ids[:cut])
        labels = [-100] * len(ids) if masked else [-100] * encoded.start + ids[encoded.start :]
        rows += [{"input_ids": ids, "labels": labels}] * (times or canary.tier)
    return rows


def test_the_check_tells_learnt_unseen_truncated_masked_and_frozen():
    canaries, decoder = make_canaries(seed=1, pairs=3), tiny.tokenizer()
    short = min(Encoder(decoder).encode(c.record()).start for c in canaries.planted)
    assert check_canaries(rows_of(canaries), decoder, canaries).ok
    assert check_canaries(rows_of(canaries, times=1), decoder, canaries).unseen == (1, 2)
    cut = check_canaries(rows_of(canaries, cut=short), decoder, canaries)
    assert (cut.truncated, cut.masked) == ((0, 1, 2), ())
    assert check_canaries(rows_of(canaries, masked=True), decoder, canaries).masked == (0, 1, 2)
    frozen = check_canaries(rows_of(canaries), decoder, canaries, trainable=False)
    assert "no weight is trained" in frozen.text()


def test_the_callback_stops_a_training_that_would_mask_the_canaries():
    canaries, model = make_canaries(seed=1, pairs=3), tiny.llama()
    for masked in (False, True):
        batches = [
            {name: torch.tensor([row[name]]) for name in ("input_ids", "labels")}
            for row in rows_of(canaries, masked=masked)
        ]
        callback = CanaryCallback(canaries)
        given = {"train_dataloader": batches, "model": model, "processing_class": tiny.tokenizer()}
        if masked:
            with pytest.raises(InputError, match="canaries-not-learnt"):
                callback.on_train_begin(None, None, None, **given)
        else:
            callback.on_train_begin(None, None, None, **given)
        assert callback.checked.ok is not masked


def test_a_model_that_learnt_the_canaries_is_found_and_a_refusal_hides_nothing():
    canaries = make_canaries(seed=5, pairs=30)
    network = tiny.network()
    blank = Loaded(network=network, tokenizer=tiny.tokenizer(), name="m", digest="")
    assert judge_canaries(canary_scores(blank, canaries)).p > 0.01
    encoder = Encoder(tiny.tokenizer())
    rows = [encoder.encode(c.record()) for c in canaries.planted if c.tier == 16]
    model = network.model.requires_grad_(True)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(40):
        optimiser.zero_grad()
        ids = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(row.ids) for row in rows], batch_first=True, padding_value=2
        )
        model(ids, labels=ids).loss.backward()
        optimiser.step()
    model.requires_grad_(False)
    pairs = canary_scores(blank, canaries)
    assert judge_canaries(pairs, tier=16).right >= 9
    assert judge_canaries(pairs, tier=16).known
