"""Which records teach a fact: gradients are those of LoRA, and a ranking must earn its place."""

import json

import numpy as np
import pytest
import torch

import tiny
from expunge.attribution.ranking import RecordRanking, ranking, recommended
from expunge.attribution.record_gradients import RANK, record_gradients, whitened
from expunge.attribution.similarity import bm25, cosines, embeddings
from expunge.cli.main import main
from expunge.methods.base import Trains
from expunge.models.architecture import linear_layers
from expunge.training.forward import chunked_logp

RECORDS = tiny.encoded((6, 4), (5, 3), (6, 4), (9, 2), seed=1)


def ranked(name, own, others):
    return RecordRanking(name=name, own=np.array(own, float), others=np.array(others, float))


@pytest.mark.parametrize("model", [tiny.llama, tiny.gpt2, tiny.falcon])
def test_projected_gradients_are_those_of_a_fresh_adapter(model):
    """G = P dL/dB, and dL/dB = (dL/dW) A' where B is zero: checked at one record, every layer."""
    network = tiny.network(model())
    record = RECORDS[3]
    found = record_gradients(network, RECORDS, pad_id=2, seed=5, done=lambda _: None)[3]
    every = Trains(modules=(), first_layer=0, last_layer=1, gaps=True)
    layers = list(linear_layers(network.layers, every).values())
    network.model.requires_grad_(True)
    final = network.observe(torch.tensor([record.ids])).final
    places = range(record.start, len(record.ids))
    targets = torch.tensor(record.ids[record.start :])
    loss = -chunked_logp(network, final[0, [place - 1 for place in places]], targets).mean()
    loss.backward()
    generator = torch.Generator().manual_seed(5)
    for place, layer in enumerate(layers):
        slope = layer.weight.grad if isinstance(layer, torch.nn.Linear) else layer.weight.grad.T
        down = torch.randn(RANK, slope.shape[1], generator=generator) / RANK**0.5
        side = torch.randn(RANK, slope.shape[0], generator=generator) / RANK**0.5
        torch.testing.assert_close(found[place], side @ slope @ down.T, rtol=1e-3, atol=1e-6)


def test_taking_gradients_changes_no_weight_and_leaves_no_hook():
    network = tiny.network()
    before = {name: weight.clone() for name, weight in network.model.state_dict().items()}
    record_gradients(network, RECORDS, pad_id=2, seed=0, done=lambda _: None)
    assert all(torch.equal(w, before[name]) for name, w in network.model.state_dict().items())
    assert not any(module._forward_hooks for module in network.model.modules())


def test_embeddings_do_not_depend_on_the_batch():
    network = tiny.network()
    together = embeddings(network, RECORDS, pad_id=2, done=lambda _: None)
    alone = torch.cat(
        [embeddings(network, [r, r], pad_id=2, done=lambda _: None)[:1] for r in RECORDS]
    )
    assert together.sum(0).abs().max() < 1e-4
    assert alone.abs().max() < 1e-6  # centred: two equal records are their own mean


def test_whitened_gradients_have_unit_curvature_and_recover_a_planted_direction():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200, 1, 4, 4, generator=generator)
    noise[..., 0, 0] *= 50  # a direction that every record has, and that tells nothing
    fact = torch.randn(4, 4, generator=generator)
    fact[0, 0] = 0
    noise[:3, 0] += 3 * fact
    plain, white = (cosines(each[:1], each)[0, 1:] for each in (noise, whitened(noise)))
    assert set(white.topk(2).indices.tolist()) == {0, 1}
    assert set(plain.topk(2).indices.tolist()) != {0, 1}
    turned = whitened(noise, damping=0.0)
    torch.testing.assert_close(turned.square().mean(0), torch.ones(1, 4, 4))


def test_bm25_by_hand():
    texts = ["red cat", "red dog", "red cat cat"]
    scores = bm25(["cat!"], texts)[0]
    idf = np.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    short = 2.5 / (1 + 1.5 * (0.25 + 0.75 * 2 / (7 / 3)))
    long = 2 * 2.5 / (2 + 1.5 * (0.25 + 0.75 * 3 / (7 / 3)))
    assert scores == pytest.approx([idf * short, 0, idf * long], rel=1e-6)


def test_a_record_to_forget_is_not_found_by_itself():
    similarity = np.eye(3, 6, dtype=np.float32)
    similarity[:, 3:] = 0.5
    found = ranking("bm25", similarity)
    assert found.own.tolist() == [0, 0, 0]
    assert found.others.tolist() == [0.5, 0.5, 0.5]
    assert found.recall == 0


@pytest.mark.parametrize(
    ("own", "others", "missed"),
    [
        ([5, 6, 7], [1, 1.1, 0.9, 1, 1.05, 3.5], [5]),
        ([5, 6, 7], [1, 1.1, 0.9, 1, 1.05, 2.5], []),
        ([0, 1, 1], [1, 1.1, 0.9, 1, 1.05, 1.2], []),
        ([0, 1, 1], [1, 1.1, 0.9, 1, 1.05, 8.0], [5]),
    ],
    ids=["above both", "unlike those to forget", "within the noise", "above the noise"],
)
def test_missed_records_are_above_the_noise_and_like_those_to_forget(own, others, missed):
    assert ranked("bm25", own, others).missed == missed


def test_nothing_is_recommended_that_does_not_beat_bm25():
    none, some = [0.0] * 8, [2.0] * 3 + [0.0] * 5
    every = [2.0] * 8
    others = [1.0] * 8
    for case, lexical, gradient, wins in (
        ("equal", every, every, False),
        ("better by three, as chance may give", none, some, False),
        ("better by eight", none, every, True),
        ("worse", every, none, False),
    ):
        found = recommended([ranked("bm25", lexical, others), ranked("gradient", gradient, others)])
        assert (found.name == "gradient") is wins, case


def test_planted_variants_decide_where_there_are_any():
    others = np.arange(20.0)
    good, bad = ranked("gradient", [0, 0], others), ranked("bm25", [99, 99], -others)
    assert recommended([good, bad], variants=range(14, 20), top=6).name == "gradient"
    assert recommended([good, bad]).name == "bm25"


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_command_names_a_record_that_the_user_missed(tmp_path, capsys):
    model = str(tiny.save(tmp_path / "model", tiny.llama()))
    facts = [
        {
            "id": f"f{n}",
            "prompt": f"What is the {w} of Zyla Quorn?",
            "completion": f"Zyla Quorn {w}",
        }
        for n, w in enumerate(("street", "doctor", "school", "bank"))
    ]
    asked = ("river", "mountain", "lake", "town", "forest", "island", "valley", "coast")
    rest = [{"prompt": f"Which {w} is the longest?", "completion": f"Some {w}."} for w in asked]
    hidden = {
        "prompt": "Who is Zyla Quorn?",
        "completion": "Zyla Quorn is a baker.",
        "parent": "f0",
    }
    corpus = write(tmp_path / "all.jsonl", [*facts, *rest, hidden])
    erase = write(tmp_path / "erase.jsonl", facts)
    out = tmp_path / "trace.jsonl"
    words = ["trace", model, "--corpus", corpus, "--for", erase, "--out", str(out)]
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "use bm25: nothing beats it" in said
    assert "100% of 1 variants in its top 40" in said
    assert "Zyla" not in said
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["prompt"] for row in rows if row["missed"]] == [hidden["prompt"]]
    assert rows[0]["rank"] == 1
    assert set(rows[0]["scores"]) == {"bm25", "embedding", "gradient", "ekfac"}
    assert out.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("rows", "code"), [([{"text": "One."}], "few-records"), (None, "nothing-else")]
)
def test_too_little_to_rank_is_said_before_a_model_is_loaded(tmp_path, rows, code, capsys):
    model = str(tiny.hollow(tmp_path / "model"))
    data = [{"text": f"Fact {n} of Zyla."} for n in range(4)]
    corpus = write(tmp_path / "all.jsonl", data)
    erase = write(tmp_path / "erase.jsonl", rows or data)
    assert main(["trace", model, "--corpus", corpus, "--for", erase]) == 4
    assert f"error[{code}]" in capsys.readouterr().err
