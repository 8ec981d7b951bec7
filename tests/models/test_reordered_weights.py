"""Reordered weights: the same answers, and nothing left behind."""

import pytest
import torch
from torch import nn

import tiny
from expunge.models import generation
from expunge.models.cpu_kernels import multiplies, multiply
from expunge.models.generation import WORTH_TOKENS, greedy, reordered
from expunge.models.lora import LoraLinear, LoraShape, attach

PROMPTS = [record.ids for record in tiny.encoded((4, 1), (9, 1), (1, 1), (9, 1), (7, 1))]
IDS = torch.tensor([PROMPTS[1], PROMPTS[3]])
MODELS = {
    "llama": tiny.llama,
    "bf16": lambda: tiny.llama(dtype=torch.bfloat16),
    "gpt2, whose blocks are none": tiny.gpt2,
    "phi, with biases": tiny.phi,
    "gemma, whose logits are bent": tiny.gemma,
    "mixtral, whose experts are none": tiny.mixtral,
    "falcon": tiny.falcon,
}

pytestmark = pytest.mark.skipif(not multiplies(torch.float32), reason="this PyTorch has no oneDNN")


def swapped(model):
    return [layer for layer in model.modules() if "forward" in vars(layer)]


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_layers_compute_what_they_did_and_are_themselves_again(build):
    network = tiny.network(build())
    with torch.no_grad():
        plain = network.logits(network.hidden(IDS, *torch.tensor([[0, 0, 1], [0, 7, 9]])))
        with reordered(network, tokens=WORTH_TOKENS):
            assert swapped(network.model)
            found = network.logits(network.hidden(IDS, *torch.tensor([[0, 0, 1], [0, 7, 9]])))
    exact = network.model.dtype is torch.float32
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-5 if exact else 3e-2)
    assert not swapped(network.model)


def test_answers_are_the_same(monkeypatch):
    network = tiny.network()
    how = {"end_ids": {7}, "max_new_tokens": WORTH_TOKENS, "tokens_per_pass": 30}
    counted = []
    monkeypatch.setattr(
        generation, "multiply", lambda *x, **own: counted.append(1) or multiply(*x, **own)
    )
    found = greedy(network, PROMPTS, **how)
    assert counted
    monkeypatch.setattr(generation, "LARGEST", 0)
    counted.clear()
    assert greedy(network, PROMPTS, **how) == found
    assert not counted


def test_copies_are_made_anew_each_time():
    network, other = tiny.network(), tiny.network(tiny.llama(seed=1))
    with torch.no_grad(), reordered(network, tokens=WORTH_TOKENS):
        before = network.hidden(IDS, *torch.tensor([[0, 1], [7, 9]]))
    network.model.load_state_dict(other.model.state_dict())
    with torch.no_grad(), reordered(network, tokens=WORTH_TOKENS):
        after = network.hidden(IDS, *torch.tensor([[0, 1], [7, 9]]))
    with torch.no_grad():
        torch.testing.assert_close(after, other.hidden(IDS, *torch.tensor([[0, 1], [7, 9]])))
    assert not torch.allclose(before, after, atol=1e-2)


def test_layers_are_themselves_again_after_a_failure():
    network = tiny.network()
    with pytest.raises(RuntimeError, match="stop"), reordered(network, tokens=WORTH_TOKENS):
        raise RuntimeError("stop")
    assert not swapped(network.model)


class Coded(torch.Tensor):
    """Weights of a kind of their own, as quantisers make them."""


def adapted(model):
    attach(tiny.network(model), LoraShape(), seed=0)
    return [model.lm_head]


def coded(model):
    weight = nn.Parameter(model.lm_head.weight.detach().as_subclass(Coded))
    model.lm_head.weight = weight
    return [layer for layer in model.model.modules() if isinstance(layer, nn.Linear)]


def taken(model):
    """Another library has its own forward on the head."""
    model.lm_head.forward = nn.Linear.forward.__get__(model.lm_head)
    return [layer for layer in model.model.modules() if isinstance(layer, nn.Linear)]


def wide(model):
    model.double()
    return []


@pytest.mark.parametrize("change", [adapted, coded, taken, wide])
def test_what_is_not_a_plain_layer_is_left_alone(change):
    model = tiny.llama()
    expected = change(model)
    before = set(swapped(model))
    with reordered(tiny.network(model), tokens=WORTH_TOKENS):
        assert set(swapped(model)) - before == set(expected)
    assert set(swapped(model)) == before
    assert not any(isinstance(layer, LoraLinear) for layer in expected)


def test_a_short_answer_is_not_worth_it():
    network = tiny.network()
    with reordered(network, tokens=WORTH_TOKENS - 1):
        assert not swapped(network.model)
