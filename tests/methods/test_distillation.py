"""The distillation family: targets in closed form, gradients, traps."""

import math
from dataclasses import replace

import pytest
import torch

import tiny
from expunge.errors import UsageError
from expunge.methods import build
from expunge.methods.base import Distribution, Predictions, Shape, Stream
from expunge.methods.counterfactual import Counterfactual
from expunge.methods.counterfactual_target import (
    SURER,
    counterfactual_target,
    match,
    target_levels,
)
from expunge.methods.elm import ELM
from expunge.methods.graddiff import GradDiff
from expunge.methods.retain_losses import argmax_nll, kl
from expunge.methods.rwhp import RWHP
from expunge.methods.undial import UNDIAL, lowered
from expunge.methods.unilogit import Unilogit, levelled
from expunge.training.forward import TermEvaluator
from expunge.training.reference_model import precompute
from random_records import DRAW, POOLS, STREAMS

SHAPE = Shape(layers=2, width=64)
V = 7
TARGETS = torch.tensor([0, 3, 6, 3])


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def erase(method, logits, *references, places=None) -> torch.Tensor:
    term = method.terms(SHAPE)[0]
    assert isinstance(term, Distribution)
    assert term.name == "forget"
    where = torch.arange(len(logits)) if places is None else places
    return term.loss(Predictions(logits, TARGETS, where, references, (TARGETS,)))


def gradient(method, logits, *references) -> torch.Tensor:
    logits = logits.clone().requires_grad_(True)
    return torch.autograd.grad(erase(method, logits, *references).sum(), logits)[0]


def chosen(probabilities) -> torch.Tensor:
    return probabilities.gather(-1, TARGETS.unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize("beta", [0.0, 3.0, 10.0])
def test_undial_target_has_its_closed_form(beta):
    reference = rand(4, V)
    p = torch.softmax(reference, -1)
    factor = torch.ones_like(p).scatter(-1, TARGETS.unsqueeze(-1), math.exp(-beta))
    closed = p * factor / (1 - chosen(p) * (1 - math.exp(-beta))).unsqueeze(-1)
    found = torch.softmax(lowered(reference, TARGETS, beta), -1)
    assert torch.allclose(found, closed, atol=1e-12)


def test_undial_without_strength_is_kl_to_the_original():
    logits, reference = rand(2, 4, V)
    expected = kl(logits, reference)
    assert torch.allclose(erase(UNDIAL(beta=0.0), logits, reference), expected, atol=1e-12)


def test_undial_pulls_towards_its_target_and_rests_there():
    logits, reference = rand(2, 4, V)
    target = lowered(reference, TARGETS, 4.0)
    found = gradient(UNDIAL(beta=4.0), logits, reference)
    assert torch.allclose(found, torch.softmax(logits, -1) - torch.softmax(target, -1), atol=1e-12)
    assert erase(UNDIAL(beta=4.0), target, reference).abs().max().item() < 1e-12
    assert gradient(UNDIAL(beta=4.0), target, reference).abs().max().item() < 1e-12


def test_trap_t6_undial_lowers_the_target_token_and_no_other():
    reference = rand(4, V)
    moved = reference - lowered(reference, TARGETS, 2.0)
    assert moved.sum().item() == pytest.approx(2.0 * 4)
    assert chosen(moved).tolist() == pytest.approx([2.0] * 4)


@pytest.mark.parametrize("name", ["undial", "unilogit", "elm"])
def test_trap_t6_padding_and_prompt_positions_have_no_part_in_the_loss(name):
    """One forward for all records: the shorter ones are padded, by whatever token."""
    method = build(name, {"retain": "none"})
    network = tiny.network()
    terms = method.terms(SHAPE)[:1]
    how = {"pad_id": 2, "tokens_per_pass": 4096}
    references = precompute(network, terms, POOLS, **how)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))

    def loss(pad_id, draw=DRAW, tokens=4096):
        observer = TermEvaluator(
            network=network, terms=terms, streams=STREAMS, references=references, pad_id=pad_id
        )
        parts = observer.step_loss(draw, coefs={"forget": 1.0}, tokens_per_pass=tokens)
        return sum(part.loss.item() for part in parts)

    assert loss(2) == pytest.approx(loss(250), rel=1e-6)
    assert loss(2) == pytest.approx(loss(2, tokens=1), rel=1e-5, abs=1e-6)
    # The mean over scored tokens: records weigh by the length of their answers alone.
    single = [loss(2, replace(DRAW, forget=(index,))) for index in range(4)]
    lengths = [len(record.ids) - record.start for record in STREAMS.forget]
    mean = sum(v * n for v, n in zip(single, lengths, strict=True)) / sum(lengths)
    assert loss(2) == pytest.approx(mean, rel=1e-5, abs=1e-6)


def test_unilogit_target_gives_the_answer_one_in_v_exactly_and_keeps_the_rest_in_ratio():
    logits = 3 * rand(4, V)
    p, q = torch.softmax(logits, -1), torch.softmax(levelled(logits, TARGETS), -1)
    assert torch.allclose(chosen(q), torch.full((4,), 1 / V, dtype=torch.float64), atol=1e-14)
    others = torch.ones_like(p, dtype=torch.bool).scatter(-1, TARGETS.unsqueeze(-1), False)
    ratio = (q / p)[others].reshape(4, V - 1)
    assert torch.allclose(ratio, ratio[:, :1].expand(-1, V - 1), atol=1e-12)


def coins(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_unilogit_is_a_divergence_of_two_coins_and_needs_no_stopped_gradient(direction):
    logits = (2 * rand(4, V)).requires_grad_(True)
    method = Unilogit(direction=direction)
    p, even = chosen(torch.softmax(logits, -1)), torch.tensor(1 / V, dtype=torch.float64)
    expected = coins(even, p) if direction == "forward" else coins(p, even)
    assert torch.allclose(erase(method, logits), expected, atol=1e-12)
    (moving,) = torch.autograd.grad(expected.sum(), logits)
    assert torch.allclose(gradient(method, logits.detach()), moving, atol=1e-12)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_unilogit_gradient_has_its_closed_form(direction):
    logits = 2 * rand(4, V)
    p = torch.softmax(logits, -1)
    own = chosen(p)
    towards = torch.nn.functional.one_hot(TARGETS, V) - p
    if direction == "forward":
        size = (own - 1 / V) / (1 - own)
    else:
        size = own * (torch.logit(own) - math.log(1 / (V - 1)))
    found = gradient(Unilogit(direction=direction), logits)
    assert torch.allclose(found, size.unsqueeze(-1) * towards, atol=1e-12)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_unilogit_rests_at_one_in_v_and_survives_certainty(direction):
    logits = levelled(rand(4, V), TARGETS)
    assert gradient(Unilogit(direction=direction), logits).abs().max().item() < 1e-12
    certain = torch.zeros(4, V).scatter(-1, TARGETS.unsqueeze(-1), 60.0)
    assert bool(torch.isfinite(erase(Unilogit(direction=direction), certain)).all())
    assert bool(torch.isfinite(gradient(Unilogit(direction=direction), certain)).all())


def test_unilogit_refuses_an_unknown_direction():
    with pytest.raises(UsageError, match="there is no direction sideways"):
        Unilogit(direction="sideways").terms(SHAPE)


def elm(**knobs) -> ELM:
    return ELM(**{"temperature": 1.0, "top": V, "start": 1.0, "end": 9.0, "ramp": 2, **knobs})


def targets(method, references, places) -> torch.Tensor:
    seen = Predictions(references[0], TARGETS, torch.tensor(places), tuple(references), (TARGETS,))
    return torch.softmax(method.erased(seen), -1)


def test_elm_strength_rises_along_the_answer_to_its_end():
    """log q - log p_ref, up to a constant, is eta times what the announcements tell apart."""
    original, novice, expert = rand(3, 4, V)
    log_q = targets(elm(), (original, novice, expert), [0, 1, 2, 9]).log()
    log_ps = [torch.log_softmax(logits, -1) for logits in (original, novice, expert)]
    for row, eta in enumerate((1.0, 5.0, 9.0, 9.0)):
        edit = log_q[row] - log_ps[0][row] - eta * (log_ps[1] - log_ps[2])[row]
        assert torch.allclose(edit, edit[:1].expand(V), atol=1e-9)


def test_elm_divides_all_three_by_the_temperature():
    references = rand(3, 4, V)
    warm = targets(elm(temperature=2.0), references, [0, 1, 2, 3])
    assert torch.allclose(warm, targets(elm(), references / 2.0, [0, 1, 2, 3]), atol=1e-12)


@pytest.mark.parametrize("top", [1, 3, 50])
def test_elm_keeps_the_largest_tokens_only(top):
    references = rand(3, 4, V)
    full = targets(elm(), references, [0, 0, 0, 0])
    found = targets(elm(top=top), references, [0, 0, 0, 0])
    kept = found > 0
    assert kept.sum(-1).tolist() == [min(top, V)] * 4
    least = full.masked_fill(~kept, math.inf).min(-1).values
    most = full.masked_fill(kept, 0.0).max(-1).values
    assert bool((least >= most).all())
    renewed = full * kept / (full * kept).sum(-1, keepdim=True)
    assert torch.allclose(found, renewed, atol=1e-12)


def test_elm_pulls_towards_its_target_also_where_that_is_zero():
    logits, *references = rand(4, 4, V)
    method = elm(top=3)
    found = gradient(method, logits, *references)
    goal = targets(method, references, [0, 1, 2, 3])
    assert torch.allclose(found, torch.softmax(logits, -1) - goal, atol=1e-12)
    assert bool(torch.isfinite(erase(method, logits, *references)).all())


def test_elm_without_difference_is_the_original():
    original, same = rand(2, 4, V)
    found = targets(elm(end=1000.0), (original, same, same), [0, 1, 2, 3])
    assert torch.allclose(found, torch.softmax(original, -1), atol=1e-12)


def test_trap_t27_elm_has_fixed_targets_and_a_soft_or_a_hard_retain_term():
    erasing, retain, fluency = ELM(gamma=2.0, alpha=3.0, fluency=4.0).terms(SHAPE)
    assert [term.coef for term in (erasing, retain, fluency)] == [2.0, 3.0, 4.0]
    assert isinstance(erasing, Distribution)
    assert erasing.references == (Stream.FORGET, Stream.NOVICE, Stream.EXPERT)
    assert fluency.streams == (Stream.ALTERNATIVE,)
    logits, original = rand(2, 4, V)
    seen = Predictions(logits, TARGETS, torch.arange(4), (original,), (TARGETS,))
    assert torch.equal(retain.loss(seen), kl(logits, original))
    hard = ELM(retain="argmax").terms(SHAPE)[1]
    assert torch.equal(hard.loss(seen), argmax_nll(logits, original))


def test_rwhp_matches_strangers_and_leaves_names_alone():
    logits, stranger = rand(2, 4, V)
    alike = torch.tensor([True, False, True, False])
    others = torch.where(alike, TARGETS, (TARGETS + 1) % V)
    term = RWHP().terms(SHAPE)[0]
    assert isinstance(term, Distribution)
    assert term.references == (Stream.STRANGER,)
    seen = Predictions(logits.requires_grad_(), TARGETS, torch.arange(4), (stranger,), (others,))
    loss = term.loss(seen)
    assert torch.equal(loss, kl(logits, stranger) * alike)
    (slope,) = torch.autograd.grad(loss.sum(), logits)
    assert slope.abs().sum(-1).bool().tolist() == alike.tolist()


def test_counterfactual_target_makes_a_secret_as_likely_as_similar_tokens():
    reference = torch.tensor([[5.0, 1.0, 0.0, -1.0, 2.0], [5.0, 1.0, 0.0, -1.0, 2.0]]).double()
    secret, similar = torch.tensor([0, -1]), torch.tensor([[1, 4], [1, 4]])
    log_q = counterfactual_target(reference, torch.tensor([0, 3]), secret, similar)
    rest = reference[0, 1:].exp() / reference[0, 1:].exp().sum()  # without the secret
    like = float((rest[0] + rest[3]) / 2)
    level = like * math.exp(-SURER * (1 - like))
    expected = torch.cat([torch.tensor([level]).double(), rest * (1 - level)])
    assert torch.allclose(log_q[0].exp(), expected)
    assert torch.allclose(log_q[1], reference[1].log_softmax(-1))


@pytest.mark.parametrize(("plain", "kept"), [(0.0, True), (-9.0, False)])
def test_a_secret_token_that_follows_from_the_language_stays_likely(plain, kept):
    reference = torch.tensor([[9.0, 1.0, 0.0, -1.0, 2.0]]).double()
    token, similar = torch.tensor([0]), torch.tensor([[1, 4]])
    level = torch.tensor([plain]).double()
    log_q = counterfactual_target(reference, token, token, similar, margin=3.0, expected=level)
    whole = reference.log_softmax(-1)[0, 0]
    expected = whole if kept else torch.tensor(plain - 3.0 * (1 - math.exp(plain))).double()
    assert torch.allclose(log_q[0, 0], expected)


def test_counterfactual_target_never_raises_a_secret():
    reference = torch.tensor([[-9.0, 1.0, 0.0, -1.0, 2.0]]).double()
    token = torch.tensor([0])
    log_q = counterfactual_target(reference, token, token, torch.tensor([[1, 4]]))
    assert torch.allclose(log_q, reference.log_softmax(-1), atol=1e-9)


@pytest.mark.parametrize(("shift", "sign"), [(4.0, 1.0), (-4.0, -1.0), (0.0, 0.0)])
def test_match_draws_a_token_to_its_level_from_both_sides(shift, sign):
    log_q = rand(1, V).log_softmax(-1)
    logits = log_q.clone()
    logits[0, 2] += shift
    logits.requires_grad_(True)
    value = match(log_q, logits, torch.tensor([2]), 0.5)
    (slope,) = torch.autograd.grad(value.sum(), logits)
    assert float(slope[0, 2].sign() * (slope[0, 2].abs() > 1e-9)) == sign
    assert (value.item() < 1e-9) is (shift == 0.0)


def test_match_does_not_let_go_of_a_token_that_is_rare_and_not_rare_enough():
    log_q = torch.tensor([[1.0 - 1e-6, 1e-6]]).double().log()
    logits = torch.tensor([[0.99, 0.01]]).double().log().requires_grad_(True)
    (slope,) = torch.autograd.grad(match(log_q, logits, torch.tensor([1]), 1.0).sum(), logits)
    (alone,) = torch.autograd.grad(match(log_q, logits, torch.tensor([1]), 0.0).sum(), logits)
    assert slope[0, 1] > 0.9 > 0.02 > alone[0, 1]


@pytest.mark.parametrize(("margin", "power"), [(-3.0, 1.0), (0.0, 2.5), (0.7, 4.0)])
def test_the_parts_of_a_target_give_its_log_probabilities(margin, power):
    reference, targets = rand(4, V), torch.tensor([0, 1, 2, 3])
    secret, similar = torch.tensor([0, -1, 2, -1]), torch.tensor([[4, 5]] * 4)
    base = torch.tensor([-5.0, math.nan, math.nan, math.nan]).double()
    own, level = target_levels(reference, targets, secret, similar, base)
    log_q = counterfactual_target(reference, targets, secret, similar, margin, power, base)
    secrets = level - margin * (1 - level.exp())
    expected = torch.where(level.isinf(), power * own, torch.minimum(own, secrets))
    assert torch.allclose(log_q.gather(-1, targets.unsqueeze(-1)).squeeze(-1), expected)
    assert torch.allclose(log_q.logsumexp(-1), torch.zeros(4, dtype=log_q.dtype), atol=1e-9)
    assert torch.equal(target_levels(reference, targets, None, None)[0], own)


def test_a_token_of_the_name_is_as_likely_as_that_of_the_stranger():
    stranger, theirs = rand(4, V), torch.tensor([0, 5, 6, 1])  # the second and the last differ
    term = Counterfactual(power=3.0).terms(SHAPE)[0]
    assert isinstance(term, Distribution)
    logits = torch.zeros(4, V, dtype=torch.float64, requires_grad=True)
    rate = 0.5
    for _ in range(4000):
        seen = Predictions(logits, TARGETS, torch.arange(4), (stranger,), (theirs,))
        (slope,) = torch.autograd.grad(term.loss(seen).sum(), logits)
        logits = (logits - rate * slope).detach().requires_grad_(True)
    reached = chosen(logits.log_softmax(-1))
    known = stranger.log_softmax(-1)
    wanted = chosen(known) * 3.0
    wanted[[1, 3]] = known.gather(-1, theirs.unsqueeze(-1)).squeeze(-1)[[1, 3]]
    assert torch.allclose(reached, wanted, atol=1e-3)


def test_the_order_of_all_other_tokens_stays():
    reference, targets = rand(4, V), torch.tensor([0, 1, 2, 3])
    log_q = counterfactual_target(reference, targets, None, None, power=3.0)
    others = torch.ones(4, V).scatter(-1, targets.unsqueeze(-1), 0.0).bool()
    moved = (log_q - reference)[others].reshape(4, V - 1)
    assert torch.allclose(moved, moved[:, :1].expand_as(moved))


@pytest.mark.parametrize("build_model", [tiny.llama, tiny.phi])
def test_the_original_keeps_its_head_while_all_of_the_model_trains(build_model):
    network = tiny.network(build_model())
    terms, hidden = GradDiff(retain="kl").terms(SHAPE), rand(3, 64).float()
    expected = network.logits(hidden)
    network.model.requires_grad_(True)
    references = precompute(network, terms, POOLS, pad_id=2, tokens_per_pass=99)
    with torch.no_grad():
        for parameter in network.model.parameters():
            parameter.add_(0.1)
    assert torch.equal(references.logits(hidden), expected)
    assert not torch.allclose(network.logits(hidden), expected, atol=1e-2)
