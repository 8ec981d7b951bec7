"""Activation checkpointing changes memory and time, and no gradient."""

import pytest
import torch

import tiny
from expunge.models.transformer import CachedStates, Site
from expunge.training.activation_checkpointing import recomputed
from random_records import FORGET

IDS = torch.tensor([record.ids[:9] for record in FORGET if len(record.ids) >= 9])


def slopes(network) -> dict[str, torch.Tensor]:
    network.model.requires_grad_(True)
    network.model.zero_grad(set_to_none=True)
    seen = network.observe(IDS, sites=(Site(0),))
    (
        network.logits(seen.final.flatten(0, 1)).square().mean() + seen.states[Site(0)].sum()
    ).backward()
    return {name: parameter.grad.clone() for name, parameter in network.model.named_parameters()}


@pytest.mark.parametrize("make", [tiny.llama, tiny.gpt2])
def test_gradients_are_the_same_bits(make):
    network = tiny.network(make())
    expected = slopes(network)
    kinds = [type(block) for block in network.layers]
    with recomputed(network):
        found = slopes(network)
        assert [type(block) for block in network.layers] != kinds
    assert [type(block) for block in network.layers] == kinds
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_activations_of_the_blocks_are_not_kept():
    def kept(network) -> int:
        held: list[int] = []

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            held.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network.observe(IDS)
        return sum(held)

    network = tiny.network(tiny.llama(layers=4))
    network.model.requires_grad_(True)
    plain = kept(network)
    with recomputed(network):
        assert kept(network) < plain / 4


def test_known_lower_states_still_pass_the_blocks_below():
    network = tiny.network()
    network.model.requires_grad_(True)
    with torch.no_grad():
        states = network.observe(IDS, sites=(Site(0),)).states[Site(0)]
    expected = network.observe(IDS).final
    with recomputed(network):
        lifted = network.observe(IDS, below=CachedStates(1, states)).final
        again = network.observe(IDS).final
    assert torch.allclose(lifted, expected, atol=1e-6)
    assert torch.equal(again, expected)
