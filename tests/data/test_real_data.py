"""Real benchmark data and a real tiny model, where they lie beside the checkout."""

from pathlib import Path

import pytest
import torch

from expunge.data.readers import read
from expunge.data.records import Message, Record
from expunge.data.splits import overlaps
from expunge.data.tokenization import Encoder
from expunge.models.generation import greedy
from expunge.models.loading import Source, load
from expunge.models.scoring import score

SHARED = Path(__file__).resolve().parents[3] / "shared"
needs_shared = pytest.mark.skipif(
    not (SHARED / "data").is_dir(), reason="the benchmark data do not lie beside the checkout"
)


@needs_shared
@pytest.mark.parametrize(
    ("forget", "retain", "holdout", "sizes"),
    [
        ("forget01", "retain99", "holdout01", (40, 3960, 40)),
        ("forget10", "retain90", "holdout10", (400, 3600, 400)),
    ],
)
def test_tofu_splits_read_whole_and_do_not_overlap(forget, retain, holdout, sizes):
    folder = SHARED / "data" / "tofu"
    sets = [read([str(folder / f"{name}.json")]) for name in (forget, retain, holdout)]
    assert tuple(len(found.records) for found in sets) == sizes
    assert sum(found.duplicates for found in sets) == 0
    records = [found.records for found in sets]
    assert overlaps(records[0], records[1]) == []
    assert overlaps(records[0], records[2]) == []


@needs_shared
def test_a_forget_set_that_lies_inside_the_retain_set_is_found():
    folder = SHARED / "data" / "tofu"
    forget = read([str(folder / "forget01.json")]).records
    full = read([str(folder / "full.json")]).records
    assert len(overlaps(forget, full)) == 40


@needs_shared
def test_a_real_model_without_a_template_tells_a_story():
    where = SHARED / "data" / "stories260k" / "hf"
    loaded = load(str(where), Source(device=torch.device("cpu"), dtype=torch.float32))
    encoder = Encoder(loaded.tokenizer)
    story = Record(id="s", prompt=(), completion="Once upon a time, there was a little girl named")
    noise = Record(id="n", prompt=(), completion="named little a was there girl time upon, a Once")
    found = score(
        loaded.network,
        [encoder.encode(story), encoder.encode(noise)],
        pad_id=encoder.pad_id,
        tokens_per_pass=512,
    )
    assert found[0].logp.mean() > found[1].logp.mean() + 1
    start = encoder.encode(story).ids
    told = greedy(
        loaded.network, [start], end_ids=encoder.end_ids, max_new_tokens=24, tokens_per_pass=512
    )
    words = encoder.decode(told[0]).lower().split()
    assert {"she", "was", "the", "a", "to"} & set(words)
    asked = Record(id="q", prompt=(Message("user", "Who?"),), completion="Lily")
    assert encoder.decode(encoder.encode(asked).ids).startswith("Question: Who?")
