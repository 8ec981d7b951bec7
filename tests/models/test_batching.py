"""Batches: which records share a forward pass, and how they lie in it."""

import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BloomConfig, BloomForCausalLM, MistralConfig, MistralForCausalLM

import tiny
from expunge.models.batching import (
    Batch,
    LostLayoutError,
    attend,
    by_beginning,
    by_length,
    by_record,
    collate,
    evenly,
    no_mask,
    pack,
    shared_beginning,
)
from expunge.models.scoring import score
from expunge.models.transformer import Site


def test_shared_beginning_never_holds_a_token_that_predicts_a_scored_one():
    same = [replace(tiny.encoded((8, 4))[0], start=start) for start in (8, 6, 9, 8)]
    assert shared_beginning(same) == 5


def test_padding_token_that_ends_an_answer_stays_scored():
    records = tiny.encoded((3, 4), (3, 9))
    ending = records[0].__class__(record="end", ids=(*records[0].ids[:-1], 2), start=3, ends=True)
    batch = collate([ending, records[1]], pad_id=2, device=torch.device("cpu"))
    assert batch.targets[:4].tolist() == list(ending.ids[3:])
    assert batch.ids[0, 7:].tolist() == [2] * 5
    padded = score(tiny.network(), [ending, records[1]], pad_id=2, tokens_per_pass=999)[0]
    alone = score(tiny.network(), [ending], pad_id=2, tokens_per_pass=999)[0]
    assert torch.allclose(padded.logp, alone.logp, atol=1e-5)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 200))
def test_groups_cover_every_record_once_and_keep_the_limit(lengths, tokens):
    groups = list(by_length(lengths, tokens=tokens))
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or max(lengths[i] for i in group) * len(group) <= tokens


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 200))
def test_even_groups_are_as_many_and_no_larger(lengths, tokens):
    def largest(groups):
        return max((max(lengths[i] for i in g) * len(g) for g in groups), default=0)

    greedy, even = list(by_length(lengths, tokens=tokens)), evenly(lengths, tokens=tokens)
    assert sorted(index for group in even for index in group) == list(range(len(lengths)))
    assert len(even) == len(greedy)
    cuts = [list(by_length(lengths, tokens=limit)) for limit in range(tokens + 1)]
    assert largest(even) == min(largest(cut) for cut in cuts if len(cut) == len(greedy))


def test_groups_are_even():
    assert [len(group) for group in by_length([10] * 6, tokens=50)] == [5, 1]
    assert [len(group) for group in evenly([10] * 6, tokens=50)] == [3, 3]


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=40), max_size=12))
def test_beginnings_hold_every_prompt_once_and_are_their_own(prompts):
    groups = by_beginning(prompts)
    assert sorted(row for group in groups for row in group.rows) == list(range(len(prompts)))
    for length, rows in groups:
        assert len({tuple(prompts[row][:length]) for row in rows}) == 1
        assert length == 0 or length < min(len(prompts[row]) for row in rows)


def test_prompts_of_several_formats_are_read_behind_the_beginning_of_their_own():
    system, other = tuple(range(30)), tuple(range(50, 90))
    prompts = [(*system, 91), (*other, 92), (7,), (*system, 93, 94), (*other, 95)]
    assert by_beginning(prompts) == [(30, (0, 3)), (40, (1, 4)), (0, (2,))]
    assert by_beginning([(*system[:20], 91), (*system[:20], 92)]) == [(0, (0, 1))], "too short"


CPU = torch.device("cpu")


def mistral() -> MistralForCausalLM:
    """Attention that looks back sixteen tokens."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=tiny.VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=16,
    )
    return MistralForCausalLM(config).eval()


def bloom() -> BloomForCausalLM:
    """Positions as biases of the attention, which has code of its own."""
    torch.manual_seed(0)
    config = BloomConfig(vocab_size=tiny.VOCABULARY, hidden_size=64, n_layer=2, n_head=4)
    return BloomForCausalLM(config).eval()


def begun(records, length):
    """The records behind tokens that are the same for all."""
    beginning = tiny.encoded((length, 1), seed=5)[0].ids[:length]
    return [replace(r, ids=(*beginning, *r.ids), start=length + r.start) for r in records]


def states(network, batch: Batch) -> list[torch.Tensor]:
    final = network.observe(batch.ids, layout=batch.layout).final
    assert final is not None
    return by_record(final, batch)


LENGTHS = ((3, 4), (1, 9), (6, 1), (2, 2))


@pytest.mark.parametrize("build", [tiny.llama, tiny.gpt2])
@pytest.mark.parametrize("shared", [0, 2, 7])
def test_a_pack_computes_what_records_give_one_by_one(build, shared):
    network = tiny.network(build())
    records = begun(tiny.encoded(*LENGTHS), shared)
    batch = network.batch(records, pad_id=2)
    assert batch.layout is not None
    assert batch.layout.shared == (shared if shared >= 4 else 0)
    assert batch.ids.numel() == sum(len(r.ids) - batch.layout.shared for r in records) + (
        batch.layout.shared
    )
    for record, found in zip(records, states(network, batch), strict=True):
        alone = network.observe(torch.tensor([record.ids])).final[0]
        assert torch.allclose(found, alone, atol=1e-5)
    assert batch.targets.tolist() == [token for r in records for token in r.ids[r.start :]]
    predict = batch.ids[batch.rows, batch.columns].tolist()
    assert predict == [token for r in records for token in r.ids[r.start - 1 : -1]]


@pytest.mark.parametrize("build", [tiny.llama, tiny.gpt2])
def test_gradients_of_a_pack_are_those_of_padded_records(build):
    records = begun(tiny.encoded(*LENGTHS), 6)
    weights = torch.randn(64, generator=torch.Generator().manual_seed(0)).double()

    def gradient(make):
        network = tiny.network(build().double())
        network.model.requires_grad_(True)
        batch = make(network)
        hidden = network.hidden(batch.ids, batch.rows, batch.columns, layout=batch.layout)
        (hidden @ weights).tanh().square().sum().backward()
        return {n: p.grad for n, p in network.model.named_parameters() if p.grad is not None}

    packed = gradient(lambda network: network.batch(records, pad_id=2))
    padded = gradient(lambda _: collate(records, pad_id=2, device=CPU))
    assert packed.keys() == padded.keys()
    for name, expected in padded.items():
        far = (packed[name] - expected).abs().max() / expected.abs().max()
        assert far < 2e-6, name  # norms and rotations round to float32, whatever the model


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=2, max_size=6),
    st.integers(0, 9),
    st.data(),
)
def test_no_record_sees_another(lengths, shared, data):
    network = tiny.network()
    records = begun(tiny.encoded(*lengths), shared)
    before = states(network, network.batch(records, pad_id=2))
    changed = data.draw(st.integers(0, len(records) - 1))
    ids = (*records[changed].ids[:-1], 9 if records[changed].ids[-1] != 9 else 8)
    other = [replace(r, ids=ids) if i == changed else r for i, r in enumerate(records)]
    after = states(network, network.batch(other, pad_id=2))
    for index, (one, two) in enumerate(zip(before, after, strict=True)):
        same = torch.equal(one, two) if index != changed else torch.equal(one[:-1], two[:-1])
        assert same
    assert not torch.equal(before[changed][-1], after[changed][-1])


def test_states_of_a_block_are_those_of_the_records():
    network = tiny.network()
    records = begun(tiny.encoded(*LENGTHS), 5)
    batch = network.batch(records, pad_id=2)
    seen = network.observe(batch.ids, sites=(Site(0),), final=False, layout=batch.layout)
    for record, found in zip(records, by_record(seen.states[Site(0)], batch), strict=True):
        ids = torch.tensor([record.ids])
        alone = network.observe(ids, sites=(Site(0),), final=False).states[Site(0)][0]
        assert torch.allclose(found, alone, atol=1e-5)


def test_records_longer_than_the_window_are_padded():
    network = tiny.network(mistral())
    short, long = tiny.encoded((3, 13), (2, 3)), tiny.encoded((3, 14), (2, 3))
    assert network.batch(short, pad_id=2).layout is not None
    assert network.batch(long, pad_id=2).layout is None


def test_an_architecture_with_attention_of_its_own_is_padded():
    network = tiny.network(bloom())
    assert network.batch(tiny.encoded(*LENGTHS), pad_id=2).layout is None
    assert tiny.network().packs_up_to == sys.maxsize


def test_a_pack_without_its_layout_is_refused():
    heads = torch.zeros(1, 2, 3, 4)
    with pytest.raises(LostLayoutError):
        attend(torch.nn.Identity(), heads, heads, heads, no_mask(CPU))


def test_packing_leaves_no_trace_in_a_saved_configuration(tmp_path):
    network = tiny.network()
    network.model.save_pretrained(tmp_path)
    assert "expunge" not in (tmp_path / "config.json").read_text()


def test_a_record_twice_in_a_pack_is_computed_like_once():
    network = tiny.network()
    record = begun(tiny.encoded((3, 4)), 5)[0]
    batch = pack([record, record], device=CPU)
    one, two = states(network, batch)
    assert torch.equal(one, two)
