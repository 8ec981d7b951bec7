"""Products by oneDNN: the values and gradients of PyTorch's own, and no other layers touched."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import tiny
from expunge.models import cpu_kernels
from expunge.models.cpu_kernels import PlainLinear, choose_products, multiply, product
from expunge.models.lora import LoraShape, attach

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN"
)


@pytest.fixture(autouse=True)
def chosen(monkeypatch):
    """As on a processor that oneDNN is the faster one on, for weights of any size."""
    monkeypatch.setattr(cpu_kernels, "_prefers_onednn", lambda: True)
    monkeypatch.setattr(cpu_kernels, "SMALLEST", 1)


@pytest.fixture
def made(monkeypatch):
    """Counts the products that oneDNN makes."""
    found = []
    monkeypatch.setattr(cpu_kernels, "multiply", lambda *own: found.append(1) or multiply(*own))
    return found


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 6), (1, 6)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("wanted", ["xwb", "xb", "x", "w", ""])
@pytest.mark.parametrize("turned", [True, False])
def test_values_and_gradients_are_those_of_pytorch(shape, bias, wanted, turned, made):
    found = []
    for linear in (product, functional.linear):
        inputs = numbers(*shape).requires_grad_("x" in wanted)
        weight = numbers(*((6, 4) if turned else (4, 6)), seed=1).requires_grad_("w" in wanted)
        added = numbers(4, seed=2).requires_grad_("b" in wanted) if bias else None
        output = linear(inputs, weight.T if turned else weight, added)
        if wanted:
            (output * numbers(*output.shape, seed=3)).sum().backward()
        grads = [each.grad for each in (inputs, weight, added) if each is not None]
        found.append((output.detach(), *grads))
    assert len(made) == 1 + ("x" in wanted)
    for own, other in zip(*found, strict=True):
        assert (own is None) == (other is None)
        if own is not None:
            torch.testing.assert_close(own, other)


class Coded(torch.Tensor):
    """Weights of a kind of their own, as quantisers make them."""


OTHERS = {
    "bf16": (numbers(2, 6).bfloat16(), numbers(4, 6).bfloat16()),
    "float64": (numbers(2, 6).double(), numbers(4, 6).double()),
    "coded": (numbers(2, 6), numbers(4, 6).as_subclass(Coded)),
}


@pytest.mark.parametrize("pair", OTHERS.values(), ids=OTHERS)
def test_other_numbers_are_left_to_pytorch(pair, made):
    assert torch.equal(product(*pair), functional.linear(*pair))
    assert not made


def test_small_weights_are_left_to_pytorch(made, monkeypatch):
    monkeypatch.setattr(cpu_kernels, "SMALLEST", 25)
    product(numbers(2, 6), numbers(4, 6))
    assert not made


def both(build):
    """A model whose upper matrices are frozen, as it is and with products chosen."""
    plain, other = build(), build()
    for model in (plain, other):
        layers = [each for each in model.modules() if isinstance(each, nn.Linear)]
        for layer in layers[len(layers) // 2 :]:
            layer.requires_grad_(False)
    choose_products(other)
    return plain, other


@pytest.mark.parametrize("build", [tiny.llama, tiny.phi, tiny.gpt2], ids=["llama", "phi", "gpt2"])
def test_a_model_computes_and_learns_what_it_did(build, made):
    ids, found = torch.tensor([[5, 6, 7, 8]]), []
    for model in both(build):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        named = model.named_parameters()
        grads = {name: weight.grad for name, weight in named if weight.grad is not None}
        found.append((loss.detach(), grads))
    assert made
    assert found[0][1]
    torch.testing.assert_close(*found)


def test_an_adapter_learns_what_it_did(made):
    ids, found = torch.tensor([[5, 6, 7, 8]]), []
    for small in (2**20, 1):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(cpu_kernels, "SMALLEST", small)
            network = tiny.network()
            attach(network, LoraShape(), seed=0)
            network.model(input_ids=ids, labels=ids).loss.backward()
        named = network.model.named_parameters()
        found.append({name: weight.grad for name, weight in named if weight.grad is not None})
        assert bool(made) is (small == 1)
    torch.testing.assert_close(*found)


def test_operations_are_counted_as_those_of_pytorch(made):
    ids, counts = torch.tensor([[5, 6, 7, 8]]), []
    for model in both(tiny.llama):
        with FlopCounterMode(display=False) as counter:
            model(input_ids=ids, labels=ids).loss.backward()
        counts.append(counter.get_total_flops())
    assert made
    assert counts[0] == counts[1] > 0


def test_a_layer_multiplies_by_the_weights_it_has(made):
    _, model = both(tiny.llama)
    rows = numbers(2, 64)
    other = {"weight": torch.zeros_like(model.lm_head.weight)}
    assert not functional_call(model.lm_head, other, (rows,)).any()
    twin = copy.deepcopy(model.lm_head)
    twin.weight.data.zero_()
    assert not twin(rows).any()
    assert model.lm_head(rows).any()
    assert made


def test_who_looks_for_the_slope_of_states_alone_pays_for_no_other(made):
    counts, ids = [], torch.tensor([[5, 6, 7, 8]])
    for model in both(tiny.llama):
        states = 1 * model.get_input_embeddings()(ids).detach().requires_grad_()
        with FlopCounterMode(display=False) as counter:
            torch.autograd.grad(model(inputs_embeds=states, labels=ids).loss, states)
        counts.append(counter.get_total_flops())
    assert made
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("wanted", ["", "x", "w", "xw"])
def test_a_product_may_be_added_to_in_place(wanted, made):
    found = []
    for linear in (product, functional.linear):
        inputs = numbers(2, 3, 6).requires_grad_("x" in wanted)
        weight = numbers(4, 6, seed=1).requires_grad_("w" in wanted)
        output = linear(inputs, weight)
        output += numbers(4, seed=2)
        output *= numbers(4, seed=3)
        if wanted:
            output.sum().backward()
        found.append((output.detach(), inputs.grad, weight.grad))
    assert made
    for own, other in zip(*found, strict=True):
        assert (own is None) == (other is None)
        if own is not None:
            torch.testing.assert_close(own, other)


class Own(nn.Linear):
    """Another library's layer."""


def test_only_plain_layers_become_others(monkeypatch):
    model = nn.Sequential(nn.Linear(2, 2), Own(2, 2), nn.LayerNorm(2))
    names = list(model.state_dict())
    choose_products(model)
    assert [type(layer) for layer in model] == [PlainLinear, Own, nn.LayerNorm]
    assert list(model.state_dict()) == names
    monkeypatch.setattr(cpu_kernels, "_prefers_onednn", lambda: False)
    untouched = nn.Sequential(nn.Linear(2, 2))
    choose_products(untouched)
    assert type(untouched[0]) is nn.Linear


@pytest.mark.parametrize(
    ("named", "expected"), [("AMD EPYC 9R14", True), ("Intel(R) Xeon(R)", False), ("", False)]
)
def test_the_processor_decides(named, expected, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(cpu_kernels, "processor", lambda: named)
    cpu_kernels._prefers_onednn.cache_clear()
    try:
        assert cpu_kernels._prefers_onednn() is expected
    finally:
        cpu_kernels._prefers_onednn.cache_clear()
