"""Latent adversarial training: the adversary, its gradient, and what is refused."""

from dataclasses import replace

import pytest
import torch

import expunge
import tiny
from expunge.errors import UsageError
from expunge.methods.base import Shape, Stream
from expunge.methods.dpo import DPO
from expunge.methods.npo import NPO
from expunge.models.transformer import ActivationPatch
from expunge.optim.robust.lat import LAT
from expunge.training.forward import TermEvaluator
from expunge.training.reference_model import precompute
from expunge.training.step_gradient import Adversary, StepGradient
from expunge.training.trainable_weights import everything
from random_records import DRAW, FORGET, POOLS, RETAIN, STREAMS, framed


def pull(network, method, streams=STREAMS) -> StepGradient:
    terms = method.terms(SHAPE)
    pools = {**POOLS, Stream.FORGET: streams.forget, Stream.RETAIN: streams.retain}
    references = precompute(network, terms, pools, pad_id=2, tokens_per_pass=99)
    watcher = TermEvaluator(
        network=network, terms=terms, streams=streams, references=references, pad_id=2
    )
    coefs = {term.name: term.coef for term in terms}
    weights = everything(network)
    return StepGradient(watcher, weights, DRAW, coefs=coefs, tokens_per_pass=99)


SHAPE = Shape(layers=2, width=64)


def nll(network, batch, push: ActivationPatch | None) -> float:
    seen = network.observe(batch.ids, push=push, layout=batch.layout)
    logits = network.logits(seen.final[batch.rows, batch.columns])
    return float(torch.nn.functional.cross_entropy(logits, batch.targets))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_adversary_moves_the_answers_within_its_radius(sign):
    network = tiny.network()
    batch = network.batch(FORGET, pad_id=2)
    adversary = Adversary(network=network, layer=0, radius=0.5, steps=8)
    signs = torch.full((len(batch.targets),), sign)
    push = adversary.push(batch, signs)
    assert push.change.norm(dim=-1).max().item() <= 0.5 * (1 + 1e-5)
    with torch.no_grad():
        moved = nll(network, batch, push) - nll(network, batch, None)
    assert sign * moved < -0.1
    again = adversary.push(batch, signs)
    assert torch.equal(again.change, push.change)


@pytest.mark.parametrize("method", [NPO(), DPO()])
def test_without_room_the_gradient_is_the_plain_one_and_with_room_it_is_not(method):
    network = tiny.network()
    pulled = pull(network, method)
    plain = pulled("forget")
    near = pulled.latent(0, radius=1e-7, steps=2)
    far = pulled.latent(0, radius=0.5, steps=4)
    assert near.keys() == plain.keys() == far.keys()
    assert max(float((near[n] - plain[n]).abs().max()) for n in plain) < 1e-5
    assert max(float((far[n] - plain[n]).abs().max()) for n in plain) > 1e-3


ALIKE = replace(STREAMS, forget=tuple(framed(FORGET, seed=8)), retain=tuple(framed(RETAIN, seed=8)))


@pytest.mark.parametrize("streams", [STREAMS, ALIKE], ids=["plain", "that begin alike"])
def test_the_gradient_does_not_depend_on_the_cut_into_micro_batches(streams):
    network = tiny.network()
    pulled = pull(network, NPO(), streams)
    whole = pulled.latent(0, radius=0.5, steps=4)
    pulled.tokens_per_pass = 1
    for name, value in pulled.latent(0, radius=0.5, steps=4).items():
        assert torch.allclose(value, whole[name], atol=1e-5, rtol=1e-3), name


def test_a_layer_that_is_not_there_is_refused_before_training(world, bench):
    settings = world.settings(robust={"name": "lat", "layer": 9})
    with pytest.raises(UsageError, match="the model has no block 9"):
        expunge.plan(settings)
    with pytest.raises(UsageError, match=r"radius = 0\.0 does not work"):
        LAT(radius=0.0)
