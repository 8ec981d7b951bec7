"""Masks and FILA: what is read off gradients before training, and what a run makes of it."""

import pytest
import torch

import tiny
from expunge.errors import UsageError
from expunge.models.lora import LoraShape, attach, detach, merge, save_adapter
from expunge.optim.masks.memflex import MemFlex
from expunge.optim.masks.saliency import Saliency
from expunge.training.localization import Localiser
from expunge.training.sampler import Streams
from expunge.training.step_gradient import GradientTransforms
from expunge.training.trainable_weights import adapted, everything
from random_records import FORGET, RETAIN, STREAMS
from short_runs import MADE, logits, quiet, state, unlearning
from taught_tiny import NEVER, taught


def localiser(network, folder, streams=STREAMS) -> Localiser:
    return Localiser(network=network, streams=streams, pad_id=2, tokens_per_pass=200, folder=folder)


def answer(network, record) -> torch.Tensor:
    """Log-probabilities of the scored tokens, by the plain model."""
    shown = network.model(input_ids=torch.tensor([record.ids])).logits[0, record.start - 1 : -1]
    wanted = torch.tensor(record.ids[record.start :]).unsqueeze(1)
    return torch.log_softmax(shown, -1).gather(1, wanted).squeeze(1)


@pytest.mark.parametrize("name", MADE)
def test_masked_weights_do_not_move_at_all(name, tmp_path):
    network = taught()
    before = state(network)
    run = unlearning(network, wraps=GradientTransforms(choose=MADE[name]), steps=3)
    _, weights = run.run(unseen=NEVER, folder=tmp_path, progress=quiet)
    assert set(weights.masters) == {name for name, _ in network.model.named_parameters()}
    place = localiser(network, tmp_path)
    mask = place.mask(MADE[name], weights, seed=0)  # read back, not made again
    after = network.model.state_dict()
    held = [name for name, kept in mask.items() if not kept.all()]
    assert held
    assert all(torch.equal(after[n][~mask[n]], before[n][~mask[n]]) for n in held)
    assert any(not torch.equal(after[n], before[n]) for n in mask)


def test_the_saliency_pass_leaves_no_gradient_behind(tmp_path):
    """Trap T28: a saliency gradient that stays is added to the first step's."""
    whole, masked = taught(), taught()
    curves = []
    for network, wraps in (
        (whole, GradientTransforms()),
        (masked, GradientTransforms(choose=Saliency(share=1.0))),
    ):
        run = unlearning(network, wraps=wraps, steps=2)
        trained, _ = run.run(unseen=NEVER, folder=tmp_path / str(len(curves)), progress=quiet)
        curves.append([point.gradient_norm for point in trained.curve])
    assert curves[0] == curves[1]
    assert all(
        torch.equal(value, masked.model.state_dict()[n]) for n, value in state(whole).items()
    )


def test_a_mask_is_made_of_the_mean_nll_of_both_sets(tmp_path):
    """At most 256 records of each, evenly spread."""
    many = tiny.encoded(*[(2, 1 + i % 3) for i in range(600)], seed=4)
    network, seen = tiny.network(), {}

    class Probe:
        def keep(self, weights, forget, retain, generator):
            seen.update(weights=weights, forget=forget, retain=retain)
            return {name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()}

    place = localiser(network, tmp_path, Streams(forget=many, retain=RETAIN))
    weights = everything(network)
    place.mask(Probe(), weights, seed=0)
    spread = [many[i * 600 // 256] for i in range(256)]
    for side, records in (("forget", spread), ("retain", RETAIN)):
        network.model.zero_grad()
        tokens = sum(len(r.ids) - r.start for r in records)
        for record in records:
            (-answer(network, record).sum() / tokens).backward()
        for name, value in seen[side].items():
            assert torch.allclose(value, network.model.get_parameter(name).grad, atol=1e-6), name


def test_an_empty_mask_is_refused(tmp_path):
    run = unlearning(tiny.network(), wraps=GradientTransforms(choose=MemFlex(size=1e9)), steps=1)
    with pytest.raises(UsageError, match=r"(?s)memflex leaves no weight.*and size is 1e\+09"):
        run.run(unseen=NEVER, folder=tmp_path, progress=quiet)


@pytest.mark.parametrize("build", [tiny.llama, tiny.gpt2])
def test_fila_computes_the_same_function_and_merges_right(build, tmp_path):
    """Trap T24: the base is no longer the original."""
    network = tiny.network(build())
    before, base, shape = logits(network), state(network), LoraShape(rank=4, alpha=8.0)
    place = localiser(network, tmp_path)
    importance = place.importance(shape)
    names = attach(network, shape, seed=0, importance=importance)
    assert set(importance) == set(names)
    assert (logits(network) - before).abs().max().item() < 1e-4
    layer = network.model.get_submodule(names[-1])
    assert layer.lora_B.abs().max().item() > 0
    assert (layer.base.weight - base[f"{names[-1]}.weight"]).abs().max().item() > 1e-3
    with torch.no_grad():
        for name, parameter in network.model.named_parameters():
            if "lora_" in name:
                parameter.add_(0.05 * torch.randn_like(parameter))
    adapted_logits = logits(network)
    assert (adapted_logits - before).abs().max().item() > 1e-2
    with pytest.raises(UsageError, match="an adapter that starts as FILA cannot be kept unmerged"):
        save_adapter(network.model, shape, {}, base="base", folder=tmp_path)
    with pytest.raises(AssertionError, match="the base was rewritten"):
        detach(network.model)
    merge(network.model, {})
    assert (logits(network) - adapted_logits).abs().max().item() < 1e-4
    assert set(network.model.state_dict()) == set(base)


def test_fila_takes_the_best_weighted_approximation():
    network = tiny.network()
    name = "model.layers.0.mlp.up_proj"
    weight = network.model.get_submodule(name).weight.clone()
    importance = torch.rand(len(weight), generator=torch.Generator().manual_seed(1)) + 0.1
    shape = LoraShape(rank=3, alpha=7.0, targets=("up_proj",))
    attach(
        network, shape, seed=0, importance={name: importance, name.replace("0", "1"): importance}
    )
    layer = network.model.get_submodule(name)
    part = shape.scale * layer.lora_B @ layer.lora_A
    left, values, right = torch.linalg.svd(importance[:, None] * weight, full_matrices=False)
    best = (left[:, :3] * values[:3] @ right[:3]) / importance[:, None]
    assert torch.allclose(part, best, atol=1e-5)
    assert torch.allclose(layer.base.weight, weight - best, atol=1e-5)
    scaled = shape.scale * layer.lora_A @ layer.lora_A.T
    assert torch.allclose(scaled, torch.diag(values[:3]), atol=1e-4)


def test_fisher_information_is_per_record(tmp_path):
    network = tiny.network()
    weights = adapted(network, LoraShape(targets=("q_proj",)))
    found = localiser(network, tmp_path)._fisher(weights, "forget")
    assert {name.split(".")[-2] for name in found} == {"q_proj"}
    expected = {name: torch.zeros_like(value) for name, value in found.items()}
    tokens = sum(len(r.ids) - r.start for r in FORGET)
    for record in FORGET:
        network.model.zero_grad()
        logp = answer(network, record)
        (-logp.mean()).backward()
        for name, value in expected.items():
            slope = network.model.get_parameter(name).grad
            value.add_(slope.square(), alpha=len(logp) / tokens)
    assert all(torch.allclose(found[n], expected[n], rtol=1e-3, atol=1e-9) for n in found)
