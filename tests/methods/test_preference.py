"""The preference family: closed forms, weights by hand, identities between methods, traps."""

import math

import pytest
import torch

from expunge.errors import UsageError
from expunge.methods import build
from expunge.methods.altpo import AltPO
from expunge.methods.base import Answers, Likelihood, SelfTaught, Shape, Stream
from expunge.methods.dpo import DPO
from expunge.methods.kto import KTO, kto
from expunge.methods.npo import NPO
from expunge.methods.simdpo import SimDPO, simdpo
from expunge.methods.simnpo import SimNPO
from expunge.methods.tnpo import TNPO

SHAPE = Shape(layers=8, width=16)
FORGET = [[-1.0, -2.0, -0.3], [-0.5]], [[-0.4, -0.5, -0.3], [-1.0]]
OTHER = [[-3.0, -0.1], [-0.7, -0.9]], [[-2.5, -0.4], [-0.2, -0.1]]


def answers(logp, reference=None) -> Answers:
    flat = torch.tensor([value for row in logp for value in row], dtype=torch.float64)
    kept = None
    if reference is not None:
        kept = torch.tensor([value for row in reference for value in row], dtype=torch.float64)
    sequence = torch.tensor([index for index, row in enumerate(logp) for _ in row])
    return Answers(
        logp=flat.requires_grad_(True), reference=kept, sequence=sequence, size=len(logp)
    )


def forget_term(method) -> Likelihood:
    term = method.terms(SHAPE)[0]
    assert isinstance(term, Likelihood)
    assert term.name == "forget"
    return term


def weights(method, *views: Answers) -> list[list[float]]:
    """Gradient of the forget loss with respect to every log-probability, by view."""
    loss = forget_term(method).loss(*views)
    found = torch.autograd.grad(loss, [view.logp for view in views], allow_unused=True)
    return [[] if gradient is None else gradient.tolist() for gradient in found]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("beta", [0.1, 1.0, 4.0])
def test_tnpo_at_step_zero_has_weight_one_and_value_two_over_beta_log_two_a_token(beta):
    seen = answers(FORGET[0], FORGET[0])
    method = TNPO(beta=beta)
    assert forget_term(method).loss(seen).item() == pytest.approx(4 * 2 / beta * math.log(2))
    assert weights(method, seen) == [pytest.approx([1.0] * 4)]
    assert forget_term(method).per == "token"


@pytest.mark.parametrize("beta", [0.3, 1.0, 5.0])
def test_tnpo_weight_is_twice_the_sigmoid_of_each_token_alone(beta):
    ratios = [a - b for p, q in zip(*FORGET, strict=True) for a, b in zip(p, q, strict=True)]
    (found,) = weights(TNPO(beta=beta), answers(*FORGET))
    assert found == pytest.approx([2 * sigmoid(beta * ratio) for ratio in ratios], rel=1e-6)
    # The authors' code writes the same weight with probabilities.
    p, q = (torch.tensor([x for row in rows for x in row]).double().exp() for rows in FORGET)
    assert found == pytest.approx((2 * p**beta / (p**beta + q**beta)).tolist(), rel=1e-6)


def test_trap_t1_tnpo_is_npo_on_answers_of_one_token_and_only_there():
    single = [[-1.0], [-0.2]], [[-0.5], [-0.9]]
    tnpo, npo = forget_term(TNPO(beta=0.7)).loss, forget_term(NPO(beta=0.7)).loss
    assert tnpo(answers(*single)).item() == pytest.approx(npo(answers(*single)).item(), abs=1e-9)
    assert abs(tnpo(answers(*FORGET)).item() - npo(answers(*FORGET)).item()) > 0.1


def test_trap_t2_the_same_beta_lets_a_sequence_go_long_before_its_tokens():
    far = answers([[-1.5] * 40], [[-0.5] * 40])
    (by_token,), (by_sequence,) = weights(TNPO(beta=0.1), far), weights(NPO(beta=0.1), far)
    assert by_token == pytest.approx([2 * sigmoid(-0.1)] * 40, rel=1e-6)
    assert by_sequence == pytest.approx([2 * sigmoid(-4.0)] * 40, rel=1e-6)
    (scaled,) = weights(TNPO(beta=0.1 * 40), far)
    assert scaled == pytest.approx(by_sequence, rel=1e-6)


def test_tnpo_tends_to_gradient_ascent_as_beta_falls():
    assert weights(TNPO(beta=1e-5), answers(*FORGET)) == [pytest.approx([1.0] * 4, abs=1e-4)]


def test_simdpo_by_hand():
    alternative, forget = torch.tensor([1.5]), torch.tensor([0.5])
    expected = 2 / 2.0 * math.log(1 + math.exp(2.0 * (1.5 - 0.5 + 0.25)))
    assert simdpo(alternative, forget, 2.0, 0.25).item() == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(2.5789, abs=1e-4)


@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_simdpo_weights_are_those_of_dpo_divided_by_length(delta):
    chosen, forgotten = answers(OTHER[0]), answers(FORGET[0])
    wins, losses = weights(SimDPO(beta=2.5, delta=delta), chosen, forgotten)
    mean = [[sum(row) / len(row) for row in rows] for rows in (OTHER[0], FORGET[0])]
    sides = [sigmoid(-2.5 * (w - f - delta)) for w, f in zip(*mean, strict=True)]
    assert wins == pytest.approx(
        [-2 * side / len(row) for side, row in zip(sides, OTHER[0], strict=True) for _ in row]
    )
    assert losses == pytest.approx(
        [2 * side / len(row) for side, row in zip(sides, FORGET[0], strict=True) for _ in row]
    )


def test_simdpo_of_a_pair_with_itself_is_two_over_beta_log_two_and_pulls_nowhere():
    seen = answers(FORGET[0])
    term = forget_term(SimDPO(beta=2.5))
    assert term.loss(seen, seen).item() == pytest.approx(2 * 2 / 2.5 * math.log(2))
    (gradient,) = torch.autograd.grad(term.loss(seen, seen), seen.logp)
    assert gradient.abs().max().item() < 1e-12
    assert not term.needs_reference
    assert term.streams == (Stream.ALTERNATIVE, Stream.FORGET)


def test_trap_t25_length_decides_dpo_but_not_simdpo():
    short, long = [[-0.6]], [[-0.6] * 8]
    even = 2 / 2.5 * math.log(2)
    loss = forget_term(SimDPO(beta=2.5)).loss
    assert loss(answers(short), answers(long)).item() == pytest.approx(even)
    assert loss(answers(long), answers(short)).item() == pytest.approx(even)
    zero = [[0.0]], [[0.0] * 8]
    sums = forget_term(DPO(beta=2.5)).loss(answers(short, zero[0]), answers(long, zero[1]))
    assert sums.item() < 1e-3 * even


def test_simdpo_without_alternative_is_simnpo():
    certain = answers([[0.0], [0.0]])  # an alternative of probability one has mu = 0
    forget = answers(FORGET[0])
    pair = forget_term(SimDPO(beta=1.7, delta=0.3)).loss(certain, forget)
    alone = forget_term(SimNPO(beta=1.7, delta=0.3)).loss(forget)
    assert pair.item() == pytest.approx(alone.item(), abs=1e-9)


def test_kto_at_step_zero_is_a_half_with_weight_beta_over_four():
    mismatch, forget = answers(OTHER[0], OTHER[0]), answers(FORGET[0], FORGET[0])
    method = KTO(beta=0.4)
    assert forget_term(method).loss(mismatch, forget).item() == pytest.approx(2 * 0.5)
    none, found = weights(method, mismatch, forget)
    assert found == pytest.approx([0.1] * 4)
    assert none == []  # the anchor is a constant


@pytest.mark.parametrize(
    ("mismatch", "delta", "expected"),
    [
        (1.0, 3.0, sigmoid(0.5 * (3.0 - 1.0))),
        (1.0, -3.0, sigmoid(0.5 * (-3.0 - 1.0))),
        (-2.0, 3.0, sigmoid(0.5 * 3.0)),  # a model that moved away as a whole: z0 stays 0
        (0.0, -200.0, 0.0),
        (0.0, 200.0, 1.0),
    ],
)
def test_kto_is_one_minus_the_sigmoid_of_the_distance_to_a_clamped_anchor(
    mismatch, delta, expected
):
    ratio = torch.tensor([delta], dtype=torch.float64, requires_grad=True)
    loss = kto(torch.tensor([mismatch], dtype=torch.float64), ratio, 0.5)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    (gradient,) = torch.autograd.grad(loss.sum(), ratio)
    assert gradient.item() == pytest.approx(0.5 * expected * (1 - expected), abs=1e-12)


def test_trap_t20_kto_is_bounded_and_lets_go_on_both_sides():
    """The variant with a logarithm, -(2/beta) log sigma, grows without bound with Delta."""
    deltas = torch.linspace(-200, 200, 81, dtype=torch.float64, requires_grad=True)
    loss = kto(torch.zeros(81), deltas, 0.5)
    assert bool(((loss >= 0) & (loss <= 1)).all())
    (weight,) = torch.autograd.grad(loss.sum(), deltas)
    assert int(weight.argmax()) == 40
    assert weight[[0, 80]].max().item() < 1e-12


def test_trap_t20_the_anchor_is_multiplied_by_beta():
    shift = torch.tensor([4.0])
    assert kto(shift, shift, 0.1).item() == kto(torch.tensor([0.0]), torch.tensor([0.0]), 0.1)


def test_kto_of_a_batch_is_the_sum_of_its_pairs():
    loss = forget_term(KTO(beta=0.3)).loss
    whole = loss(answers(*OTHER), answers(*FORGET)).item()
    alone = sum(
        loss(*(answers(*([row] for row in pair)) for pair in pairs)).item()
        for pairs in zip(zip(*OTHER, strict=True), zip(*FORGET, strict=True), strict=True)
    )
    assert whole == pytest.approx(alone, abs=1e-9)


def test_altpo_is_dpo_with_answers_of_its_own():
    views = answers(*OTHER), answers(*FORGET)
    own, given = AltPO(beta=0.2), DPO(beta=0.2)
    ours, theirs = forget_term(own), forget_term(given)
    assert ours.loss(*views).item() == theirs.loss(*views).item()
    assert weights(own, *views) == weights(given, *views)
    assert ours.streams == theirs.streams
    assert [term.name for term in own.terms(SHAPE)] == [term.name for term in given.terms(SHAPE)]


def test_only_altpo_asks_the_model_to_write():
    assert isinstance(AltPO(), SelfTaught)
    assert not isinstance(DPO(), SelfTaught)
    assert not isinstance(build("elm", {}), SelfTaught)  # has a temperature of another kind


@pytest.mark.parametrize("knobs", [{"samples": 0}, {"temperature": 0.0}, {"temperature": -1.0}])
def test_altpo_refuses_to_draw_nothing(knobs):
    with pytest.raises(UsageError, match=r"cannot be drawn at temperature"):
        build("altpo", knobs).terms(SHAPE)
