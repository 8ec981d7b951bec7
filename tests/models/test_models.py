import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import save_file

import tiny
from expunge.errors import InputError, UsageError
from expunge.models.batching import shared_beginning
from expunge.models.generation import extend, greedy
from expunge.models.interpolation import changed, interpolated, snapshot
from expunge.models.loading import Source, load, weights_digest
from expunge.models.lora import LoraShape, attach, is_plain, merge, save_adapter
from expunge.models.number_formats import quantise_dequantise, quantised
from expunge.models.reference import split_reference
from expunge.models.scoring import score
from expunge.models.transformer import ActivationPatch, CachedStates, Network, Site

CPU = Source(device=torch.device("cpu"), dtype=torch.float32)


@pytest.mark.parametrize("build", [tiny.llama, tiny.gpt2, tiny.gemma])
def test_scores_are_those_of_the_plain_model(build):
    model = build()
    record = tiny.encoded((7, 5))[0]
    logits = model(input_ids=torch.tensor([record.ids])).logits[0].float()
    log_probs = torch.log_softmax(logits, -1)
    found = score(tiny.network(model), [record], pad_id=2, tokens_per_pass=64)[0]
    for place, token in enumerate(record.ids[record.start :]):
        row = log_probs[record.start - 1 + place].detach()
        assert found.logp[place].item() == pytest.approx(row[token].item(), abs=1e-5)
        assert bool(found.hit[place]) == (row.argmax().item() == token)
        p = row.exp()
        mean = (p * row).sum()
        deviation = math.sqrt((p * (row - mean) ** 2).sum().item())
        expected = (row[token].item() - mean.item()) / max(deviation, 1e-3)
        assert found.z[place].item() == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("build", [tiny.gemma, tiny.granite_moe])
def test_a_head_that_bends_its_logits_needs_no_block(build):
    network = tiny.network(build())
    assert not network.has_plain_head
    ids = torch.tensor([tiny.encoded((7, 5))[0].ids])
    with torch.no_grad():
        hidden, expected = network.trunk(input_ids=ids).last_hidden_state, network.model(ids).logits
        ran = []
        for block in network.layers:
            block.register_forward_hook(lambda *given: ran.append(given))
        found = network.logits(hidden[0])
        assert torch.equal(found, expected[0])
        assert not ran
        assert torch.equal(network.model(ids).logits, expected)
    assert len(ran) == 2


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=8),
    st.integers(1, 60),
)
def test_scores_do_not_depend_on_how_records_are_batched(lengths, tokens_per_pass):
    network = tiny.network()
    records = tiny.encoded(*lengths)
    alone = [score(network, [r], pad_id=2, tokens_per_pass=1000)[0].logp for r in records]
    together = score(network, records, pad_id=2, tokens_per_pass=tokens_per_pass)
    for one, other in zip(alone, together, strict=True):
        assert torch.allclose(one, other.logp, atol=1e-5)


@pytest.mark.parametrize("build", [tiny.llama, tiny.gpt2, tiny.gemma])
@pytest.mark.parametrize("tokens_per_pass", [40, 1000])
def test_beginning_that_records_share_is_read_once_and_changes_no_score(build, tokens_per_pass):
    network = tiny.network(build())
    beginning = tiny.encoded((9, 1))[0].ids[:9]
    records = [
        replace(record, ids=(*beginning, *record.ids), start=record.start + len(beginning))
        for record in tiny.encoded((2, 5), (4, 3), (3, 7), (6, 2))
    ]
    assert shared_beginning(records) >= len(beginning)
    assert shared_beginning(records[:1]) == 0
    together = score(network, records, pad_id=2, tokens_per_pass=tokens_per_pass)
    for record, found in zip(records, together, strict=True):
        alone = score(network, [record], pad_id=2, tokens_per_pass=1000)[0]
        assert torch.allclose(found.logp, alone.logp, atol=1e-5)
        assert torch.allclose(found.z, alone.z, atol=1e-3)
        assert found.hit.tolist() == alone.hit.tolist()


@pytest.mark.parametrize("build", [tiny.llama, tiny.gpt2])
@pytest.mark.parametrize("opening", [0, 3, 9])
def test_greedy_equals_the_slow_way(build, opening):
    """Also behind an opening that all prompts share, which is read once; one is hardly longer."""
    network = tiny.network(build())
    begun = tiny.encoded((opening + 1, 1))[0].ids[:opening]
    own = [record.ids for record in tiny.encoded((4, 1), (9, 1), (2, 1), (9, 1), seed=1)]
    prompts = [begun + ids for ids in [*own, own[0][:1]]]
    ends = {5}

    def slowly(prompt):
        tokens = list(prompt)
        while len(tokens) < len(prompt) + 6:
            chosen = network.model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax().item()
            if chosen in ends:
                break
            tokens.append(chosen)
        return tuple(tokens[len(prompt) :])

    found = greedy(network, prompts, end_ids=ends, max_new_tokens=6, tokens_per_pass=25)
    assert found == [slowly(prompt) for prompt in prompts]
    twice = extend(
        network,
        prompts,
        lambda logits: logits.argmax(dim=-1),
        copies=2,
        end_ids=ends,
        max_new_tokens=6,
        tokens_per_pass=25,
    )
    assert twice == [[answer, answer] for answer in found]


def test_rows_that_end_leave_the_others_alone():
    network = tiny.network()
    prompts = [record.ids for record in tiny.encoded((4, 1), (6, 1), (5, 1))]
    free = greedy(network, prompts, end_ids=set(), max_new_tokens=8, tokens_per_pass=99)
    stop = free[1][2]
    cut = greedy(network, prompts, end_ids={stop}, max_new_tokens=8, tokens_per_pass=99)
    for whole, part in zip(free, cut, strict=True):
        expected = whole[: whole.index(stop)] if stop in whole else whole
        assert part == expected


@pytest.mark.parametrize("build", [tiny.llama, tiny.gpt2])
def test_adapter_starts_as_nothing_and_merges_to_what_it_computes(build, tmp_path):
    network = tiny.network(build())
    ids = torch.tensor([tiny.encoded((9, 3))[0].ids])
    before = network.model(input_ids=ids).logits
    shape = LoraShape(rank=3, alpha=6.0)
    names = attach(network, shape, seed=1)
    assert torch.equal(network.model(input_ids=ids).logits, before)
    parameters = dict(network.model.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name.endswith("lora_B"):
                parameter.normal_(std=0.05)
    adapted = network.model(input_ids=ids).logits
    assert not torch.allclose(adapted, before, atol=1e-3)
    save_adapter(network.model, shape, {}, base="base", folder=tmp_path)
    merge(network.model, {})
    assert torch.allclose(network.model(input_ids=ids).logits, adapted, atol=1e-5)
    assert not [name for name, _ in network.model.named_parameters() if "lora" in name]
    assert len(names) == len([name for name in parameters if name.endswith("lora_A")])
    theirs = PeftModel.from_pretrained(build(), str(tmp_path)).eval()
    assert torch.allclose(theirs(input_ids=ids).logits, adapted, atol=1e-5)


@pytest.mark.parametrize(("first", "last", "blocks"), [(2, None, [2]), (0, 1, [0, 1]), (1, 1, [1])])
def test_adapter_on_some_blocks_only_loads_in_peft(first, last, blocks, tmp_path):
    network = tiny.network(tiny.llama(layers=3))
    shape = LoraShape(
        rank=2, alpha=4.0, first_layer=first, last_layer=last, targets=("q_proj", "down_proj")
    )
    assert attach(network, shape, seed=0) == [
        f"model.layers.{block}.{name}"
        for block in blocks
        for name in ("self_attn.q_proj", "mlp.down_proj")
    ]
    with torch.no_grad():
        for name, parameter in network.model.named_parameters():
            if name.endswith("lora_B"):
                parameter.fill_(0.1)
    ids = torch.tensor([[5, 6, 7]])
    adapted = network.model(input_ids=ids).logits
    save_adapter(network.model, shape, {}, base="base", folder=tmp_path)
    theirs = PeftModel.from_pretrained(tiny.llama(layers=3), str(tmp_path)).eval()
    assert torch.allclose(theirs(input_ids=ids).logits, adapted, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "tensor", "expected"),
    [
        ({}, "q_proj.lora_A.weight", True),
        ({"init_lora_weights": True}, "q_proj.lora_B.weight", True),
        ({"init_lora_weights": "pissa"}, "q_proj.lora_A.weight", False),
        ({"use_dora": True}, "q_proj.lora_A.weight", False),
        ({"lora_bias": True}, "q_proj.lora_A.weight", False),
        ({"trainable_token_indices": [3]}, "q_proj.lora_A.weight", False),
        ({}, "embed_tokens.lora_embedding_A", False),
        ({}, "q_proj.lora_B.bias", False),
    ],
)
def test_what_merges_without_peft_is_told_by_options_and_tensors(
    changed, tensor, expected, tmp_path
):
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **changed}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file(
        {f"base_model.model.{tensor}": torch.zeros(2)}, tmp_path / "adapter_model.safetensors"
    )
    assert is_plain(tmp_path) is expected


def test_a_folder_may_have_a_plus_in_its_name(tmp_path):
    base = tiny.save(tmp_path / "llama+sft", tiny.llama())
    assert split_reference(str(base)) == (str(base), None)


def test_saved_adapter_merges_on_loading(tmp_path):
    base = tiny.save(tmp_path / "base", tiny.llama())
    network = tiny.network()
    attach(network, LoraShape(rank=2, alpha=4.0), seed=0)
    with torch.no_grad():
        for name, parameter in network.model.named_parameters():
            if name.endswith("lora_B"):
                parameter.normal_(std=0.05)
    save_adapter(
        network.model, LoraShape(rank=2, alpha=4.0), {}, base="../base", folder=tmp_path / "a"
    )
    ids = torch.tensor([[5, 6, 7]])
    adapted = network.model(input_ids=ids).logits
    for reference in (f"{base}+{tmp_path / 'a'}", str(tmp_path / "a")):
        loaded = load(reference, CPU)
        assert torch.allclose(loaded.network.model(input_ids=ids).logits, adapted, atol=1e-5)


def test_unknown_target_is_refused():
    with pytest.raises(UsageError, match="no linear layer of the blocks 0 to 1 is named q_prj"):
        attach(tiny.network(), LoraShape(targets=("q_prj",)), seed=0)


@given(st.integers(2, 8), st.sampled_from([None, 4, 7]))
def test_quantised_weights_lie_on_the_grid(bits, group):
    weight = torch.randn(5, 21, generator=torch.Generator().manual_seed(bits))
    rounded = quantise_dequantise(weight, bits=bits, group=group)
    blocks = weight.split(group or 21, dim=1)
    for original, block in zip(blocks, rounded.split(group or 21, dim=1), strict=True):
        step = original.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
        assert torch.allclose(block / step, (block / step).round(), atol=1e-3)
        assert bool(((block - original).abs() <= step * 0.501).all())


def test_sixteen_bits_change_nearly_nothing_and_the_weights_come_back():
    weight = torch.randn(8, 16)
    assert torch.allclose(quantise_dequantise(weight, bits=16, group=None), weight, atol=2e-4)
    network = tiny.network()
    before = weights_digest(network.model.state_dict())
    with quantised(network, bits=4):
        assert weights_digest(network.model.state_dict()) != before
    assert weights_digest(network.model.state_dict()) == before


def test_experts_in_one_tensor_are_rounded_as_well():
    network = tiny.network(tiny.mixtral())
    before = snapshot(network)
    stacks = [name for name, p in network.model.named_parameters() if p.ndim == 3]
    assert len(stacks) == 4, "two blocks, with the matrices in and out of their experts"
    with quantised(network, bits=4):
        rounded = dict(network.model.named_parameters())
        for name in stacks:
            for expert, matrix in enumerate(rounded[name]):
                own = quantise_dequantise(before[name][expert], bits=4, group=128)
                assert torch.equal(matrix, own)
                assert not torch.equal(matrix, before[name][expert])
    assert all(torch.equal(p, before[n]) for n, p in network.model.named_parameters())


def test_interpolation_ends_are_exact():
    network = tiny.network(tiny.llama(seed=0))
    original = snapshot(network)
    unlearned = tiny.llama(seed=1).state_dict()
    network.model.load_state_dict(unlearned)
    end = weights_digest(network.model.state_dict())
    differing = changed(network, original)
    assert "model.norm.weight" not in differing
    with interpolated(network, differing, 0.0):
        assert weights_digest(network.model.state_dict()) == weights_digest(original)
    with interpolated(network, differing, 0.5):
        middle = network.model.state_dict()["model.layers.0.mlp.up_proj.weight"]
        name = "model.layers.0.mlp.up_proj.weight"
        assert torch.allclose(middle, (original[name] + unlearned[name]) / 2, atol=1e-6)
    with interpolated(network, differing, 1.0):
        assert weights_digest(network.model.state_dict()) == end
    assert weights_digest(network.model.state_dict()) == end


def test_states_after_a_block_are_those_of_the_whole_model():
    model = tiny.llama(layers=3)
    network = tiny.network(model)
    ids = torch.tensor([[4, 5, 6, 7]])
    states = model(input_ids=ids, output_hidden_states=True).hidden_states
    sites = (Site(0), Site(1))
    seen = network.observe(ids, sites=sites, final=False)
    assert seen.final is None
    for site in sites:
        assert torch.equal(seen.states[site], states[site.layer + 1])


@pytest.mark.parametrize("build", [tiny.llama, tiny.gpt2, tiny.falcon, tiny.bloom])
@pytest.mark.parametrize("layer", [1, 2])
def test_a_forward_from_known_states_is_the_whole_forward(build, layer):
    network = tiny.network(build())
    ids = torch.tensor([[4, 5, 6, 7], [9, 8, 7, 6]])
    below = network.observe(ids, sites=(Site(layer - 1),), final=False).states[Site(layer - 1)]
    whole = network.observe(ids).final
    lifted = network.observe(ids, below=CachedStates(layer, below)).final
    assert torch.equal(lifted, whole)
    assert torch.equal(network.observe(ids).final, whole)


def test_a_push_moves_what_comes_after_it():
    network = tiny.network()
    ids = torch.tensor([[4, 5, 6, 7]])
    plain = network.observe(ids, sites=(Site(0),))
    change = torch.randn(1, 4, 64, generator=torch.Generator().manual_seed(0))
    pushed = network.observe(ids, push=ActivationPatch(0, change))
    assert not torch.allclose(pushed.final, plain.final)
    below = CachedStates(1, plain.states[Site(0)] + change)
    assert torch.equal(pushed.final, network.observe(ids, below=below).final)


def test_the_lens_at_the_last_block_is_the_model():
    network = tiny.network()
    ids = torch.tensor([[4, 5, 6, 7]])
    seen = network.observe(ids, sites=(Site(1),))
    assert torch.equal(network.lens(seen.states[Site(1)]), seen.final)


def test_the_mlp_site_is_what_the_mlp_adds():
    model = tiny.llama()
    network = tiny.network(model)
    ids = torch.tensor([[4, 5, 6, 7]])
    kept = []
    model.model.layers[1].mlp.register_forward_hook(
        lambda module, inputs, output: kept.append(output)
    )
    seen = network.observe(ids, sites=(Site(1, "mlp"),), final=False)
    assert torch.equal(seen.states[Site(1, "mlp")], kept[0])


def test_encoder_model_is_refused():
    model = tiny.llama().model
    with pytest.raises(InputError, match="has no language-model head"):
        Network(model)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: str(p / "absent.gguf"), "there is no file"),
        (lambda p: f"base+{p}", "holds no adapter"),
        (lambda p: str(p), "cannot be loaded"),
        (lambda p: "someone/some-model", "is not on this machine and the network is off"),
    ],
)
def test_models_that_are_not_there(make, message, tmp_path):
    offline = Source(device=torch.device("cpu"), dtype=torch.float32, offline=True)
    with pytest.raises(InputError, match=message):
        load(make(tmp_path), offline)
