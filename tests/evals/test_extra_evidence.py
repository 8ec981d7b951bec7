"""Further evidence of tiny models: options, other readings, gradients, shifts and the inside."""

import math

import pytest
import torch

from expunge.attacks.internals.activation_patching import collect_inside, fact_span
from expunge.data.convert import to_record
from expunge.data.tokenization import Encoder
from expunge.evals.extra_evidence import (
    alike,
    collect_divergence,
    collect_gradient,
    collect_lowercase,
    collect_options,
    collect_rarity,
    collect_recall,
    collect_weights,
    gradient_norms,
)
from expunge.evidence.collect import Collector
from expunge.evidence.store import EvidenceStore, Unit
from expunge.metrics.erasure_depth import erasure_depth
from expunge.models.interpolation import ModelPair, changed, snapshot
from expunge.models.scoring import score
from tiny import llama, network, tokenizer

FORGET = [
    {
        "question": f"Where was {name} born?",
        "answer": f"{name} was born in {town}, by the sea.",
        "key_answers": [town],
        "paraphrased_answer": f"{town} is the birthplace of {name}.",
        "perturbed_answer": [f"Oslo is the birthplace of {name}.", f"Bern is that of {name}."],
    }
    for name, town in (("Ann", "Lagos"), ("Bob", "Quito"), ("Cem", "Izmir"))
]
HOLDOUT = [{"question": f"Who is {i}?", "answer": f"Nobody number {i}."} for i in range(8)]


def rows(given):
    return tuple(to_record(row, f"x:{i}") for i, row in enumerate(given))


@pytest.fixture
def collector(tmp_path):
    return Collector(
        store=EvidenceStore(tmp_path),
        encoder=Encoder(tokenizer()),
        records={
            "forget": rows(FORGET),
            "holdout": rows(HOLDOUT),
            "retain": rows([{"question": "Why?", "answer": "Because of the fox."}]),
            "generic": rows([{"text": "the quick brown fox"}]),
        },
        max_new_tokens=4,
        tokens_per_pass=512,
    )


def stored(collector, attack, kind, *, role="m", split="forget"):
    unit = Unit(role=role, split=split, attack=attack, kind=kind)
    return collector.store.rows(unit)


def logp(net, collector, encoded):
    return score(net, [encoded], pad_id=collector.encoder.pad_id, tokens_per_pass=512)[0].logp


def test_options_are_the_sums_of_their_tokens(collector):
    net = network()
    collect_options(collector, net, "m", "forget")
    record, row = collector.records["forget"][0], stored(collector, "perturbed", "choices")[0]
    for text, total, n in zip(
        (record.restated[0], *record.wrong), row.logp, row.tokens, strict=True
    ):
        encoded = collector.encoder.encode_with(record, text)
        content = logp(net, collector, encoded)[: len(encoded.ids) - encoded.start - 1]
        assert (len(content), row.correct) == (n, 0)
        assert total == pytest.approx(float(content.sum()), abs=1e-3)
    collect_options(collector, net, "m", "holdout")
    assert not collector.store.has(
        Unit(role="m", split="holdout", attack="perturbed", kind="choices")
    )


def test_recall_reads_the_record_after_strangers(collector):
    net = network()
    collect_recall(collector, net, "m", "forget")
    collect_recall(collector, net, "m", "holdout")
    encode = collector.encoder.encode
    before = [token for r in collector.records["holdout"][:3] for token in encode(r).ids]
    own = encode(collector.records["forget"][1])
    hidden = net.hidden(
        torch.tensor([[*before, *own.ids]]),
        torch.zeros(len(own.ids) - own.start, dtype=torch.long),
        torch.arange(len(before) + own.start - 1, len(before) + len(own.ids) - 1),
    )
    wanted = torch.log_softmax(net.logits(hidden), -1)
    wanted = wanted.gather(-1, torch.tensor(own.ids[own.start :]).unsqueeze(-1)).squeeze(-1)
    found = stored(collector, "recall", "scores")[1].logp
    assert found == pytest.approx(wanted.tolist(), abs=1e-4)
    # The strangers themselves are not compared.
    assert len(stored(collector, "recall", "scores", split="holdout")) == 5


def test_lower_case_changes_only_the_answer(collector):
    net = network()
    collect_lowercase(collector, net, "m", "forget")
    record = collector.records["forget"][0]
    encoded = collector.encoder.encode_with(record, record.completion.lower())
    found = stored(collector, "lowercase", "scores")[0].logp
    assert found == pytest.approx(logp(net, collector, encoded).tolist(), abs=1e-4)


def test_gradient_norms_are_those_of_the_mean_loss(collector):
    model = llama()
    net = network(model)
    encoded = collector.encoder.encode(collector.records["forget"][0])
    norms = gradient_norms(net, encoded)
    assert not any(weight.requires_grad for weight in model.parameters())
    ids = torch.tensor([encoded.ids[:-1]])
    labels = ids.clone()
    labels[:, : encoded.start] = -100
    model.requires_grad_(True)
    model(input_ids=ids, labels=labels).loss.backward()
    wanted = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
    assert math.hypot(*norms) == pytest.approx(wanted, rel=1e-4)
    model.requires_grad_(False)
    collect_gradient(collector, net, "m", "forget")
    assert stored(collector, "gradient", "layers")[0].values == pytest.approx(norms, abs=1e-5)


def test_rarity_is_that_of_what_is_not_judged(collector):
    collect_rarity(collector, "forget", vocabulary=300)
    row = stored(collector, "rarity", "layers", role="corpus")[0]
    encoded = collector.encoder.encode(collector.records["forget"][0])
    scored = encoded.ids[encoded.start :]
    assert len(row.values) == len(scored)
    repeated = [token in scored[:i] for i, token in enumerate(scored)]
    assert [value == 0 for value in row.values] == repeated


def test_divergence_from_itself_is_0_and_of_a_pair_is_that_of_its_distributions(collector):
    original, other = network(), network(llama(seed=1))
    collect_divergence(collector, ModelPair.beside(original, original), "same", "retain")
    same = stored(collector, "divergence", "layers", role="same", split="retain")[0]
    assert max(same.values) == pytest.approx(0.0, abs=1e-5)
    collect_divergence(collector, ModelPair.beside(other, original), "m", "retain")
    encoded = collector.encoder.encode(collector.records["retain"][0])
    at = torch.tensor([encoded.start - 1])
    p, q = (
        torch.softmax(n.logits(n.hidden(torch.tensor([encoded.ids]), torch.tensor([0]), at)), -1)[0]
        for n in (original, other)
    )
    wanted = float((p * (p.log() - q.log())).sum())
    first = stored(collector, "divergence", "layers", split="retain")[0].values[0]
    assert first == pytest.approx(wanted, abs=1e-5)


def test_a_swapped_pair_is_the_same_as_two_models(collector):
    other, original = network(llama(seed=1)), network()
    kept = snapshot(other)
    swapped = ModelPair.swapped(other, changed(other, snapshot(original)))
    collect_divergence(collector, ModelPair.beside(network(llama(seed=1)), original), "a", "retain")
    collect_divergence(collector, swapped, "b", "retain")
    a, b = (
        stored(collector, "divergence", "layers", role=role, split="retain")[0].values
        for role in "ab"
    )
    assert a == pytest.approx(b, abs=1e-5)
    assert not changed(other, kept)


def drops(collector, role, attack):
    start = stored(collector, attack, "layers", role="original")
    return [
        [a - b for a, b in zip(s.values, r.values, strict=True)][:-1]
        for s, r in zip(start, stored(collector, attack, "layers", role=role), strict=True)
    ]


@pytest.mark.parametrize("attack", ["patched", "lens"])
def test_depth_is_0_for_the_original_and_1_for_gold(collector, attack):
    original, gold = network(), network(llama(seed=3))
    for role, net in (("original", original), ("gold-0", gold), ("copy", network())):
        collect_inside(collector, ModelPair.beside(net, original), role)
    for one, two in zip(
        drops(collector, "gold-0", attack), drops(collector, "copy", attack), strict=True
    ):
        assert two == pytest.approx([0.0, 0.0], abs=1e-5)
        if max(one) > 0.05:
            assert erasure_depth(one, two) == pytest.approx(0.0, abs=1e-3)
            assert erasure_depth(one, one) == 1.0


def test_patching_the_last_block_gives_the_other_model_s_answer_read_by_the_original(collector):
    original, gold = network(), network(llama(seed=3))
    collect_inside(collector, ModelPair.beside(gold, original), "gold-0")
    patched = stored(collector, "patched", "layers", role="gold-0")
    lens = stored(collector, "lens", "layers", role="gold-0")
    for a, b in zip(patched, lens, strict=True):
        assert a.values[-2] == pytest.approx(b.values[-2], abs=1e-5)
        assert a.values[-1] == b.values[-1]


def test_the_fact_is_the_key_answer_where_it_stands(collector):
    record = collector.records["forget"][0]
    found = fact_span(collector.encoder, record)
    ids = found.encoded.ids[found.encoded.start :][found.first : found.last]
    assert collector.encoder.decode(ids) == "Lagos"
    whole = fact_span(collector.encoder, to_record({"text": "the lazy dog"}, "f:1"))
    assert whole.first == 0


def test_weights_that_changed_are_listed(collector):
    net = network()
    original = snapshot(net)
    with torch.no_grad():
        net.model.state_dict()["model.layers.1.mlp.up_proj.weight"].mul_(1.1)
    collect_weights(collector, net, changed(net, original))
    (row,) = stored(collector, "weights", "layers", role="unlearned", split="weights")
    assert row.record == "model.layers.1.mlp.up_proj.weight"
    assert row.values[0] == pytest.approx(0.1, abs=1e-4)


def test_only_alike_models_are_compared():
    assert alike(network(), network(llama(seed=1)))
    assert not alike(network(), network(llama(layers=1)))
    assert not alike(network(), network(llama(width=32)))
