"""Selective recomputation changes memory, and no gradient."""

import itertools

import pytest
import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaMLP

import tiny
from expunge.methods.base import Trains
from expunge.models.lora import LoraShape
from expunge.training.activation_checkpointing import recomputed, selectively_recomputed
from expunge.training.trainable_weights import adapter, chosen, everything
from live import live
from tiny import counted

IDS = torch.randint(3, tiny.VOCABULARY, (4, 40), generator=torch.Generator().manual_seed(0))
LORA = LoraShape(rank=4)
DOWN = Trains(modules=("down_proj",), first_layer=1, last_layer=1)
MODELS = {
    "llama": tiny.llama,
    "llama, bf16": lambda: tiny.llama(dtype=torch.bfloat16),
    "llama, wide enough for oneDNN": lambda: tiny.llama(width=256),
    "gemma": tiny.gemma,
    "mixtral": tiny.mixtral,
    "gpt2": tiny.gpt2,
    "phi": tiny.phi,
}


def slopes(network, weights) -> dict[str, torch.Tensor]:
    seen = network.observe(IDS)
    assert seen.final is not None
    network.logits(seen.final.flatten(0, 1)).float().square().mean().backward()
    found = {name: master.grad for name, master in weights.masters.items()}
    for master in weights.masters.values():
        master.grad = None
    return {name: slope for name, slope in found.items() if slope is not None}


def same(found, expected, *, apart=0.0) -> bool:
    """Tell whether gradients are the same, up to a share of each one's norm."""
    assert found.keys() == expected.keys()
    assert len(found) > 0
    shares = ((found[name] - value).norm() / value.norm() for name, value in expected.items())
    return max(shares) <= apart


def trained(network, what):
    match what:
        case "adapter":
            weights = adapter(network, LORA, seed=0)
            for name, master in weights.masters.items():  # B begins at zero, and so would slopes
                nn.init.normal_(master, std=0.1) if "lora_B" in name else None
            weights.publish()
            return weights
        case "some":
            return chosen(network, DOWN)
        case _:
            return everything(network)


@pytest.mark.parametrize(
    ("model", "what"),
    [
        *itertools.product(MODELS, ["all", "adapter"]),
        *((model, "some") for model in MODELS if model.startswith("llama")),
    ],
)
def test_gradients_are_the_same(model, what):
    network = tiny.network(MODELS[model]())
    weights = trained(network, what)
    expected = slopes(network, weights)
    kinds = [type(module) for module in network.model.modules()]
    with selectively_recomputed(network):
        found = slopes(network, weights)
        changed = [type(module) for module in network.model.modules()] != kinds
    assert changed == (model not in ("gpt2", "phi"))
    assert [type(module) for module in network.model.modules()] == kinds
    norms = changed and (what == "all" or "bf16" in model)  # they round in an order of their own
    assert same(found, expected, apart=(5e-3 if "bf16" in model else 2e-6) if norms else 0.0)


@pytest.mark.parametrize("what", ["all", "adapter"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_can_be_made_again_is_not_kept(what, dtype):
    network = tiny.network(tiny.llama(layers=4, dtype=dtype))
    trained(network, what)
    width, rows = 64, IDS.numel() * 4 * dtype.itemsize

    def kept() -> float:
        """Count numbers that a block keeps for each token."""
        with live(*network.model.state_dict().values()) as alive:
            before = alive.now
            seen = network.observe(IDS)
            found = alive.now - before
        assert seen.final is not None
        return found / rows

    plain = kept()
    with selectively_recomputed(network):
        spared = plain - kept()
    norms = int(what == "all") + int(dtype is torch.bfloat16)
    assert spared == pytest.approx(2 * 2 * width + 2 * norms * width, rel=0.1)


@pytest.mark.parametrize("what", ["all", "adapter"])
def test_operations_can_be_counted_and_none_is_added(what):
    network = tiny.network(tiny.llama())
    weights = trained(network, what)
    _, plain = counted(lambda: slopes(network, weights))
    with selectively_recomputed(network):
        _, selective = counted(lambda: slopes(network, weights))
    assert selective == plain


def test_who_looks_on_sees_what_passes():
    network = tiny.network(tiny.llama())
    network.model.requires_grad_(True)
    read: list[torch.Tensor] = []
    down = network.layers[0].mlp.down_proj
    handle = down.register_forward_pre_hook(lambda _module, inputs: read.append(inputs[0]))
    network.observe(IDS)
    with selectively_recomputed(network):
        network.observe(IDS)
    handle.remove()
    assert len(read) == 2
    assert torch.equal(*read)


def test_an_mlp_that_computes_something_else_is_left_alone():
    class Scaled(LlamaMLP):
        def forward(self, x):
            return 0.5 * self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))

    network = tiny.network(tiny.llama())
    for block in network.layers:
        block.mlp.__class__ = Scaled
    weights = everything(network)
    expected = slopes(network, weights)
    with selectively_recomputed(network):
        assert type(network.layers[0].mlp) is Scaled
        found = slopes(network, weights)
    assert same(found, expected, apart=2e-6)


def test_a_projection_that_keeps_its_input_the_other_way_round_is_given_that():
    class Turned(nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.weight = nn.Parameter(weight)

        def forward(self, inputs):
            product = self.weight @ inputs.flatten(0, -2).T
            return product.T.reshape(*inputs.shape[:-1], -1)

    network = tiny.network(tiny.llama(width=128))
    for block in network.layers:
        block.mlp.down_proj = Turned(block.mlp.down_proj.weight.detach())
    weights = everything(network)
    expected = slopes(network, weights)
    with selectively_recomputed(network):
        found = slopes(network, weights)
    assert same(found, expected, apart=2e-6)


def test_without_a_way_back_nothing_is_done():
    network = tiny.network(tiny.llama())
    expected = network.observe(IDS).final
    with selectively_recomputed(network), torch.no_grad():
        assert torch.equal(network.observe(IDS).final, expected)
    with selectively_recomputed(network):  # nothing is trained
        assert torch.equal(network.observe(IDS).final, expected)


def test_whole_blocks_can_be_computed_again_afterwards():
    network = tiny.network(tiny.llama())
    weights = everything(network)
    expected = slopes(network, weights)
    with selectively_recomputed(network):
        slopes(network, weights)
    with recomputed(network):
        found = slopes(network, weights)
    assert same(found, expected)
