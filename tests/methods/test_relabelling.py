"""The relabelling family: closed forms, weights by hand, what is taught and what is left alone."""

import math

import pytest
import torch

import tiny
from expunge.errors import UsageError
from expunge.methods import build
from expunge.methods.base import Answers, Distribution, Likelihood, Predictions, Shape, Stream
from expunge.methods.idk_ap import IDKAP, preservation
from expunge.methods.random_label import RandomLabel
from expunge.methods.relearn import ReLearn
from expunge.methods.retain_losses import argmax_nll, kl
from expunge.methods.whp import WHP, generic
from expunge.training.activation_cache import key
from expunge.training.reference_model import final_states
from expunge.training.reinforced_model import reinforced_states
from random_records import FORGET

SHAPE = Shape(layers=8, width=16)


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def answers(*rows: list[float]) -> Answers:
    flat = torch.tensor([value for row in rows for value in row], dtype=torch.float64)
    sequence = torch.tensor([index for index, row in enumerate(rows) for _ in row])
    return Answers(
        logp=flat.requires_grad_(True), reference=None, sequence=sequence, size=len(rows)
    )


def predictions(logits, *references, targets=None) -> Predictions:
    count = len(logits)
    at = torch.zeros(count, dtype=torch.long) if targets is None else targets
    return Predictions(logits, at, torch.arange(count), references, ())


def test_preservation_is_log_two_over_beta_where_both_are_equally_likely():
    even = torch.tensor([-3.0, -7.0])
    assert preservation(even, even, 0.1).tolist() == pytest.approx([10 * math.log(2)] * 2)


def test_preservation_compares_sums_of_log_probabilities_by_hand():
    refused, answered = answers([-1.0, -2.0], [-4.0]), answers([-0.5], [-1.0, -1.0])
    term = IDKAP(beta=0.5).terms(SHAPE)[1]
    assert isinstance(term, Likelihood)
    loss = term.loss(refused, answered)
    gaps = (-3.0 + 0.5, -4.0 + 2.0)
    assert loss.item() == pytest.approx(sum(math.log(1 + math.exp(0.5 * g)) / 0.5 for g in gaps))
    away, back = torch.autograd.grad(loss, (refused.logp, answered.logp))
    first, second = (1 / (1 + math.exp(-0.5 * gap)) for gap in gaps)
    assert away.tolist() == pytest.approx([first, first, second])
    assert back.tolist() == pytest.approx([-first, -second, -second])


def test_idk_ap_refuses_forget_questions_and_preserves_retain_answers():
    refusal, preserve = IDKAP(gamma=2.0, alpha=3.0).terms(SHAPE)
    assert (refusal.streams, refusal.coef, refusal.per) == ((Stream.ALTERNATIVE,), 2.0, "token")
    assert preserve.streams == (Stream.REFUSED, Stream.RETAIN)
    assert {stream.side for stream in preserve.streams} == {"retain"}
    assert (preserve.coef, preserve.per) == (3.0, "sequence")


@pytest.mark.parametrize(
    ("method", "stream"),
    [(RandomLabel(), Stream.NOISE), (ReLearn(), Stream.ALTERNATIVE), (IDKAP(), Stream.ALTERNATIVE)],
)
def test_another_answer_is_taught_by_its_nll_and_the_old_one_is_not_touched(method, stream):
    terms = method.terms(SHAPE)
    assert terms[0].streams == (stream,)
    assert terms[0].loss(answers([-1.0, -2.0], [-0.5])).item() == 3.5
    assert all(Stream.FORGET not in term.streams for term in terms)


def test_relearn_has_three_terms_with_coefficients_of_their_own():
    taught, retain, divergence = ReLearn(gamma=2.0, alpha=3.0, divergence=4.0).terms(SHAPE)
    assert [term.coef for term in (taught, retain, divergence)] == [2.0, 3.0, 4.0]
    assert len({term.name for term in (taught, retain, divergence)}) == 3
    assert isinstance(divergence, Distribution)
    seen = predictions(*rand(2, 3, 5))
    assert torch.equal(divergence.loss(seen), kl(seen.logits, seen.references[0]))


def test_whp_lowers_only_what_was_reinforced():
    original = torch.tensor([[1.0, 2.0, 3.0]])
    reinforced = torch.tensor([[1.5, 1.0, 3.25]])
    assert generic(original, reinforced, 4.0).tolist() == [[-1.0, 2.0, 2.0]]
    assert torch.equal(generic(original, original - 1.0, 4.0), original)
    assert torch.equal(generic(original, reinforced, 0.0), original)


@pytest.mark.parametrize("target", ["argmax", "soft"])
def test_whp_gradient_is_the_distance_of_the_distributions(target):
    logits, original, reinforced = rand(3, 4, 7)
    logits.requires_grad_(True)
    term = WHP(target=target, strength=3.0).terms(SHAPE)[0]
    assert isinstance(term, Distribution)
    assert term.reinforced
    assert term.references == (Stream.FORGET,)
    loss = term.loss(predictions(logits, original, reinforced)).sum()
    (found,) = torch.autograd.grad(loss, logits)
    wanted = generic(original, reinforced, 3.0)
    if target == "soft":
        goal = torch.softmax(wanted, -1)
    else:
        goal = torch.nn.functional.one_hot(wanted.argmax(-1), 7).double()
    assert torch.allclose(found, torch.softmax(logits, -1) - goal, atol=1e-12)


def test_whp_is_zero_where_the_model_says_what_is_generic():
    original, reinforced = rand(2, 4, 7)
    soft = WHP(target="soft").terms(SHAPE)[0]
    said = generic(original, reinforced, 5.0)
    assert soft.loss(predictions(said, original, reinforced)).abs().max().item() < 1e-12


def test_whp_refuses_an_unknown_target():
    with pytest.raises(UsageError, match="there is no target hard"):
        build("whp", {"target": "hard"}).terms(SHAPE)


def test_reinforcing_raises_the_answers_and_leaves_the_model_alone():
    network = tiny.network()
    before = {name: weight.clone() for name, weight in network.model.state_dict().items()}
    plain = final_states(network, FORGET, pad_id=2, tokens_per_pass=4096)
    strong = reinforced_states(network, FORGET, FORGET, seed=0, pad_id=2, tokens_per_pass=4096)
    after = network.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    for record in FORGET:
        targets = torch.tensor(record.ids[record.start :])
        nlls = [
            torch.nn.functional.cross_entropy(network.logits(states[key(record)]), targets)
            for states in (plain, strong)
        ]
        assert nlls[1].item() < nlls[0].item()


def test_argmax_retain_learns_the_first_choice_of_the_original():
    logits, original = rand(2, 4, 7)
    first = original.argmax(-1)
    expected = torch.nn.functional.cross_entropy(logits, first, reduction="none")
    assert torch.allclose(argmax_nll(logits, original), expected, atol=1e-12)
