"""Ways back that are written by hand, against autograd."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers.pytorch_utils import Conv1D

import tiny
from expunge.models.lora import LoraLinear, LoraShape
from expunge.training.forward import chunked_logp, token_logp


def doubled(*shape, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    values = scale * torch.randn(*shape, generator=generator, dtype=torch.float64)
    return values.requires_grad_(True)


def test_token_logp_is_log_softmax_and_so_is_its_gradient():
    logits = doubled(7, 11, seed=0, scale=3.0)
    targets = torch.tensor([0, 10, 3, 3, 5, 9, 1])
    slope = torch.linspace(-2, 3, 7, dtype=torch.float64)
    plain = torch.log_softmax(logits, -1).gather(-1, targets[:, None]).squeeze(-1)
    (expected,) = torch.autograd.grad(plain, logits, slope)
    found = token_logp(logits, targets)
    assert torch.equal(found, plain)
    (gradient,) = torch.autograd.grad(found, logits, slope)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-14)


def test_a_second_way_back_is_refused_instead_of_wrong():
    logits = doubled(3, 5, seed=1)
    total = token_logp(logits, torch.tensor([0, 1, 2])).sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_a_token_that_cannot_follow_has_no_slope():
    logits = torch.tensor([[0.0, -torch.inf, 1.0]], requires_grad=True)
    token_logp(logits, torch.tensor([2])).sum().backward()
    p = torch.softmax(torch.tensor([0.0, 1.0]), -1)
    torch.testing.assert_close(logits.grad, torch.tensor([[-p[0], 0.0, 1 - p[1]]]))


@pytest.mark.parametrize("trained", [False, True], ids=["head frozen", "head trained"])
@pytest.mark.parametrize("chunk", [5, 100])
def test_chunks_change_neither_value_nor_gradient(trained, chunk, monkeypatch):
    monkeypatch.setattr("expunge.training.forward.CHUNK", chunk)
    network = tiny.network(tiny.llama().double())
    network.head.requires_grad_(trained)
    hidden = doubled(17, 64, seed=2)
    targets = torch.arange(17) * 7
    chunked_logp(network, hidden, targets).pow(2).sum().backward()
    found = (hidden.grad.clone(), network.head.weight.grad)
    hidden.grad = network.head.weight.grad = None
    logits = hidden @ network.head.weight.T
    log_probs = torch.log_softmax(logits, -1)
    log_probs.gather(-1, targets[:, None]).squeeze(-1).pow(2).sum().backward()
    torch.testing.assert_close(found[0], hidden.grad)
    assert (found[1] is None) == (not trained)
    if trained:
        torch.testing.assert_close(found[1], network.head.weight.grad)


@pytest.mark.parametrize(("trained", "products"), [(False, 2), (True, 4)])
def test_a_frozen_head_is_applied_once_and_gone_back_through_once(trained, products, monkeypatch):
    monkeypatch.setattr("expunge.training.forward.CHUNK", 5)
    network = tiny.network()
    network.head.requires_grad_(trained)
    hidden = torch.ones(17, 64, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        chunked_logp(network, hidden, torch.arange(17)).sum().backward()
    assert counter.get_total_flops() == products * 2 * 17 * 64 * tiny.VOCABULARY


def test_a_frozen_head_that_bends_its_logits_has_their_slope(monkeypatch):
    monkeypatch.setattr("expunge.training.forward.CHUNK", 5)
    network = tiny.network(tiny.gemma().double())
    assert not network.has_plain_head
    hidden, targets = doubled(12, 64, seed=4), torch.arange(12)
    found = chunked_logp(network, hidden, targets)
    slope = torch.linspace(-2, 3, 12, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(found, hidden, slope)
    plain = token_logp(network.logits(hidden), targets)
    (expected,) = torch.autograd.grad(plain, hidden, slope)
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("transposed", [True, False], ids=["Conv1D", "Linear"])
@pytest.mark.parametrize("reads_grad", [True, False])
def test_gradients_of_an_adapted_layer(bias, transposed, reads_grad):
    torch.manual_seed(0)
    base = Conv1D(5, 8) if transposed else nn.Linear(8, 5, bias=bias)
    base = base.double().requires_grad_(False)
    if transposed and bias:
        nn.init.normal_(base.bias)
    shape = LoraShape(rank=3, alpha=6.0)
    layer = LoraLinear(base, shape, torch.Generator().manual_seed(1)).double()
    nn.init.normal_(layer.lora_B)
    inputs = doubled(2, 4, 8, seed=3).detach().requires_grad_(reads_grad)
    weight = base.weight.T if transposed else base.weight
    plain = functional.linear(inputs, weight, base.bias)
    plain = plain + 2.0 * inputs @ layer.lora_A.T @ layer.lora_B.T
    torch.testing.assert_close(layer(inputs), plain)
    wanted = [layer.lora_A, layer.lora_B, *([inputs] if reads_grad else [])]
    slope = torch.randn_like(plain)
    expected = torch.autograd.grad(plain, wanted, slope)
    found = torch.autograd.grad(layer(inputs), wanted, slope)
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other)
    assert base.weight.grad is None
    base.requires_grad_(True)
    asked = [part for part in (base.weight, base.bias) if part is not None]
    weight = base.weight.T if transposed else base.weight
    low = inputs @ layer.lora_A.T @ layer.lora_B.T
    plain = functional.linear(inputs, weight, base.bias) + 2.0 * low
    expected = torch.autograd.grad(plain, asked, slope)
    found = torch.autograd.grad(layer(inputs), asked, slope)
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other)
