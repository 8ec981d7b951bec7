import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from expunge.errors import UsageError
from expunge.methods import METHODS, build
from expunge.methods.base import Answers, Likelihood, Representation, Shape, Stream
from expunge.methods.dpo import dpo
from expunge.methods.graddiff import ascent
from expunge.methods.hidden_states import random_direction, towards
from expunge.methods.npo import NPO, npo
from expunge.methods.retain_losses import kl, nll
from expunge.methods.rmu import RMU
from expunge.methods.simnpo import SimNPO, simnpo
from method_cases import CASES

SHAPE = Shape(layers=8, width=16)


def answers(logp: list[list[float]], reference: list[list[float]] | None = None) -> Answers:
    flat = torch.tensor([value for row in logp for value in row], dtype=torch.float64)
    flat.requires_grad_(True)
    kept = None
    if reference is not None:
        kept = torch.tensor([value for row in reference for value in row], dtype=torch.float64)
    sequence = torch.tensor([index for index, row in enumerate(logp) for _ in row])
    return Answers(logp=flat, reference=kept, sequence=sequence, size=len(logp))


def test_npo_at_step_zero_has_value_two_over_beta_log_two_and_weight_one():
    delta = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    loss = npo(delta, 0.1)
    assert torch.allclose(loss, torch.full_like(loss, 20 * math.log(2)))
    (gradient,) = torch.autograd.grad(loss.sum(), delta)
    assert torch.allclose(gradient, torch.ones_like(gradient))


@pytest.mark.parametrize(("beta", "delta"), [(0.1, -3.0), (0.5, 2.0), (2.0, -10.0)])
def test_npo_weight_is_twice_the_sigmoid(beta, delta):
    ratio = torch.tensor([delta], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(npo(ratio, beta).sum(), ratio)
    assert gradient.item() == pytest.approx(2 / (1 + math.exp(-beta * delta)))


def test_npo_sums_over_the_tokens_of_a_sequence():
    seen = answers([[-1.0, -2.0], [-0.5]], [[-0.5, -0.5], [-1.0]])
    assert seen.log_ratio.tolist() == pytest.approx([-2.0, 0.5])
    term = NPO(beta=0.5).terms(SHAPE)[0]
    assert isinstance(term, Likelihood)
    expected = sum(4 * math.log(1 + math.exp(0.5 * d)) for d in (-2.0, 0.5))
    assert term.loss(seen).item() == pytest.approx(expected, rel=1e-6)
    assert term.per == "sequence"


def test_npo_tends_to_gradient_ascent_as_beta_falls():
    seen = answers([[-1.0, -2.0], [-0.5]], [[-0.4, -0.5], [-1.0]])
    weak = NPO(beta=1e-4).terms(SHAPE)[0].loss(seen)
    (gradient,) = torch.autograd.grad(weak, seen.logp)
    assert torch.allclose(gradient, torch.ones_like(gradient), atol=1e-3)


def test_simnpo_weight_per_token_by_hand():
    seen = answers([[-1.0, -2.0, -3.0], [-0.2]])
    beta, delta = 2.5, 0.5
    term = SimNPO(beta=beta, delta=delta, gamma=1.0).terms(SHAPE)[0]
    (gradient,) = torch.autograd.grad(term.loss(seen), seen.logp)
    for place, (length, mu) in enumerate([(3, 2.0), (3, 2.0), (3, 2.0), (1, 0.2)]):
        sigmoid = 1 / (1 + math.exp(beta * (mu - delta)))
        assert gradient[place].item() == pytest.approx(2 / length * sigmoid, rel=1e-5)
    assert simnpo(torch.tensor([2.0]), 2.5, 0.0).item() == pytest.approx(
        2 / 2.5 * math.log(1 + math.exp(-5.0)), rel=1e-5
    )


def test_dpo_of_a_pair_with_itself_is_log_two_without_gradient():
    delta = torch.tensor([1.5], dtype=torch.float64, requires_grad=True)
    loss = dpo(delta, delta, 0.1)
    (gradient,) = torch.autograd.grad(loss.sum(), delta)
    assert loss.item() == pytest.approx(20 * math.log(2))
    assert gradient.item() == 0


def test_dpo_pushes_the_alternative_up_and_the_answer_down():
    wanted = torch.tensor([0.0], dtype=torch.float64, requires_grad=True)
    unwanted = torch.tensor([0.0], dtype=torch.float64, requires_grad=True)
    up, down = torch.autograd.grad(dpo(wanted, unwanted, 0.3).sum(), (wanted, unwanted))
    assert (up.item(), down.item()) == (-1.0, 1.0)


def test_ascent_is_the_negative_of_retain_nll():
    seen = answers([[-1.0, -2.0], [-0.5]])
    assert ascent(seen).item() == -3.5
    assert nll(seen).item() == 3.5


@given(st.integers(2, 9), st.integers(0, 99))
def test_kl_is_never_negative_and_zero_only_for_equal_distributions(size, seed):
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, 4, size, generator=generator, dtype=torch.float64)
    assert bool((kl(first, second) > 0).all())
    assert torch.allclose(kl(first, first + 3.0), torch.zeros(4, dtype=torch.float64), atol=1e-12)


def test_kl_points_from_the_reference_to_the_model():
    policy = torch.log(torch.tensor([[0.9, 0.1]], dtype=torch.float64))
    reference = torch.log(torch.tensor([[0.5, 0.5]], dtype=torch.float64))
    expected = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert kl(policy, reference).item() == pytest.approx(expected)
    assert expected == pytest.approx(0.511, abs=1e-3)


def test_rmu_is_zero_at_its_target_and_a_mean_square_elsewhere():
    target = random_direction(16, seed=3)
    assert target.norm().item() == pytest.approx(1.0)
    assert bool((target >= 0).all())
    assert torch.equal(target, random_direction(16, seed=3))
    assert not torch.equal(target, random_direction(16, seed=4))
    assert towards(target.repeat(2, 1), target).tolist() == [0.0, 0.0]
    assert towards(torch.tensor([[3.0, 1.0]]), torch.zeros(2)).tolist() == [5.0]


def test_rmu_trains_three_blocks_up_to_its_layer():
    trains = RMU().trains(SHAPE)
    assert trains is not None
    assert (trains.first_layer, trains.last_layer) == (0, 2)
    terms = RMU(layer=5, steering=2.0).terms(SHAPE)
    assert [term.layer for term in terms if isinstance(term, Representation)] == [5, 5]
    hidden = 2.0 * random_direction(16, 0).repeat(3, 1)
    assert terms[0].loss(hidden, None).sum().item() == pytest.approx(0.0, abs=1e-10)


def test_rmu_refuses_a_layer_that_is_not_there():
    with pytest.raises(UsageError, match="the model has no block 8"):
        RMU(layer=8).terms(SHAPE)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_every_method_declares_a_complete_loss(case):
    method = case.build()
    terms = method.terms(SHAPE)
    names = [term.name for term in terms]
    assert any(name.startswith("forget") for name in names)
    assert len(set(names)) == len(names)
    assert any(stream is not Stream.RETAIN for term in terms for stream in term.streams)
    assert method.recipe.lr < method.recipe.lr_lora
    assert method.advice
    assert method == case.build()
    text = vars(__import__(type(method).__module__, fromlist=["x"]))["__doc__"]
    assert "arXiv:" in text
    assert "Differs from" in text


def test_the_table_of_cases_covers_every_method():
    assert {case.name for case in CASES} == set(METHODS)


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("npoo", {}, "there is no method npoo.*did you mean npo?"),
        ("npo", {"bta": 1}, "method npo has no parameter bta.*did you mean beta?"),
        ("npo", {"beta": "much"}, "beta = much does not suit method npo"),
        ("rmu", {"layer": True}, "layer = True does not suit method rmu"),
        ("npo", {"retain": "l2"}, "there is no retain term l2"),
        ("nowhere.module:Class", {}, "cannot import Class from nowhere.module"),
        ("expunge.losses.npo:NPO", {}, "use npo: its class is in expunge.methods.npo now"),
    ],
)
def test_a_wrong_method_is_explained(name, knobs, message):
    with pytest.raises(UsageError, match=f"(?s){message}"):
        build(name, knobs).terms(SHAPE)


def test_knobs_from_files_and_variables_become_numbers():
    assert build("npo", {"beta": "0.2", "alpha": 2}) == NPO(beta=0.2, alpha=2.0)
    assert build("rmu", {"layer": "3"}) == RMU(layer=3)


def test_a_method_from_elsewhere_is_named_by_import_path():
    assert build("expunge.methods.npo:NPO", {"beta": 0.3}) == NPO(beta=0.3)
