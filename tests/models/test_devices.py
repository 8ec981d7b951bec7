"""What a graphics card asks for, as far as it can be told without one."""

import sys
import weakref
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

import tiny
from attack_facts import FACTS, make_target
from expunge.attacks.finetuning.base import Sweep
from expunge.attacks.finetuning.relearn import Relearn
from expunge.attacks.internals.logit_lens import LogitLens
from expunge.attacks.optimized_prompts.embedding import EmbeddingAttack
from expunge.attacks.optimized_prompts.gcg import GCG
from expunge.attacks.sampling.near_verbatim import NearVerbatim
from expunge.attacks.sampling.sampling import Sampling
from expunge.models.generation import greedy
from expunge.models.lora import LoraShape
from expunge.models.scoring import score
from expunge.training.forward import TermEvaluator
from fake_gpu import CARD, Card, Pretended, moved
from method_cases import CASES
from random_records import DRAW, FORGET
from short_runs import quiet, unlearning
from taught_tiny import NEVER, gradient, observer

SWEEP = Sweep(lora_rates=(), upper_rates=(1e-3,), full_rates=(1e-3,), looks=(1,), rank=2)
ATTACKS = (
    Relearn(sweep=SWEEP),
    LogitLens(),
    Sampling(samples=2, temperatures=(1.0,)),
    NearVerbatim(width=2, longest=4),
    EmbeddingAttack(length=2, steps=1),
    GCG(length=3, steps=1, width=4, top=4, facts=1),
)


@pytest.fixture
def card(monkeypatch):
    """A pretended card."""
    made = torch.tensor

    def tensor(data, *, device=None, **named):  # made on `meta` it would hold no numbers
        return made(data, **named) if device is None else made(data, **named).to(device)

    monkeypatch.setattr(torch, "tensor", tensor)
    adam = sys.modules[torch.optim.Adam.__module__]
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda *_, **__: None)
    with Pretended():
        yield CARD


def test_the_pretended_card_refuses_what_a_card_refuses(card):
    there, here = torch.ones(3, device=card), torch.ones(3)
    assert (there + torch.tensor(1.0))[torch.tensor([0, 1])].tolist() == [2.0, 2.0]
    for wrong in (
        lambda: there + here,
        lambda: here[torch.tensor([0], device=card)],
        lambda: torch.rand(3, generator=torch.Generator(), device=card),
        there.numpy,
    ):
        with pytest.raises(RuntimeError, match=r"card|numpy"):
            wrong()


@dataclass(frozen=True)
class Everything:
    """The terms of all methods, so that one step takes the losses of all."""

    def build(self):
        return self

    def terms(self, shape):
        built = {case.name: case.build().terms(shape) for case in CASES}
        return tuple(
            replace(term, name=f"{name} {term.name}")
            for name, terms in built.items()
            for term in terms
        )


def test_every_loss_and_gradient_is_taken_on_the_card(card):
    network = tiny.network(moved(tiny.llama()))
    assert network.packs_up_to > 0  # an error there would be taken for a model that cannot pack
    found = gradient(observer(Everything(), network), DRAW, 4096)
    assert found.keys() == dict(network.model.named_parameters()).keys()
    assert all(isinstance(slope, Card) for slope in found.values())


def test_a_run_trains_and_ends_on_the_card(card, tmp_path):
    network = tiny.network(moved(tiny.llama(dtype=torch.bfloat16)))
    run = unlearning(network, lora=LoraShape(rank=2, alpha=4.0, first_layer=1), steps=2)
    _, weights = run.run(unseen=NEVER, folder=tmp_path, progress=quiet)
    run.finish(weights)
    left = (*network.model.parameters(), *weights.masters.values())
    assert all(isinstance(weight.data, Card) for weight in left)


def test_scores_and_answers_are_those_of_the_processor(card):
    there, here = tiny.network(moved(tiny.llama())), tiny.network()
    how = {"tokens_per_pass": 64}
    found, expected = (score(network, FORGET, pad_id=2, **how) for network in (there, here))
    for own, other in zip(found, expected, strict=True):
        assert torch.allclose(own.logp, other.logp, atol=1e-5)
    asked = [record.ids[: record.start] for record in FORGET]
    answers = [greedy(n, asked, end_ids={2}, max_new_tokens=4, **how) for n in (there, here)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attacks_work_on_the_card(attack, card, tmp_path):
    network = tiny.network(moved(tiny.llama(layers=3, dtype=torch.bfloat16)))
    target = replace(make_target(tmp_path), network=network)
    assert attack.run(target, FACTS[:3], FACTS[3:])


def test_a_pass_that_did_not_fit_is_let_go_before_a_smaller_one(tmp_path, monkeypatch):
    """Its activations, kept for a way back that failed, would fill the card a second time."""
    backward, real = Tensor.backward, TermEvaluator.step_loss
    failed, left = [], []

    def fails(self):
        if not failed:
            failed.append(weakref.ref(self))
            raise torch.OutOfMemoryError("CUDA out of memory")
        backward(self)

    def watched(self, draw, *, coefs, tokens_per_pass, side=None):
        left.extend(loss() is not None for loss in failed)
        yield from real(self, draw, coefs=coefs, tokens_per_pass=tokens_per_pass, side=side)

    monkeypatch.setattr(Tensor, "backward", fails)
    monkeypatch.setattr(TermEvaluator, "step_loss", watched)
    run = unlearning(tiny.network(), steps=1, tokens_per_pass=64)
    run.run(unseen=NEVER, folder=tmp_path, progress=quiet)
    assert left == [False]
