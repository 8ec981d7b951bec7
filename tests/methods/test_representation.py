"""The representation family: closed forms, gradients and traps."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from expunge.errors import UsageError
from expunge.methods.adaptive_rmu import AdaptiveRMU, scaled_target
from expunge.methods.base import Answers, Likelihood, Representation, Shape, Stream
from expunge.methods.hidden_states import WIDTHS, blocks, noise_distance, random_direction
from expunge.methods.repnoise import RepNoise, bounded_ascent
from expunge.methods.rmu import RMU
from expunge.methods.rr import RR, distance, rerouted
from expunge.training.forward import TermEvaluator
from expunge.training.reference_model import precompute
from expunge.training.sampler import BatchIndices, Streams

SHAPE = Shape(layers=32, width=16)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_the_adaptive_target_is_beta_times_the_length_of_the_originals_state():
    reference = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    target = scaled_target(reference, torch.tensor([0.6, 0.8]), 2.0)
    assert target.tolist() == [pytest.approx([6.0, 8.0]), pytest.approx([1.2, 1.6])]


def test_adaptive_rmu_is_zero_at_its_target_and_follows_each_position():
    forget, retain = AdaptiveRMU(layer=5, beta=3.0, seed=2).terms(SHAPE)
    assert isinstance(forget, Representation)
    assert (forget.layer, forget.needs_reference, retain.coef) == (5, True, 1200.0)
    reference = drawn(4, 16)
    lengths = reference.norm(dim=-1, keepdim=True)
    target = 3.0 * lengths * random_direction(16, 2).double()
    assert forget.loss(target, reference).tolist() == pytest.approx([0.0] * 4, abs=1e-12)
    # The scale is each position's own, not that of the first batch.
    assert forget.loss(target, 2 * reference).tolist() == pytest.approx(
        (9 * lengths.squeeze().square() / 16).tolist()
    )


def test_adaptive_rmu_trains_what_rmu_trains():
    assert AdaptiveRMU(layer=7).trains(SHAPE) == RMU(layer=7).trains(SHAPE)


def test_rerouting_is_the_positive_part_of_the_cosine():
    reference = torch.tensor([[1.0, 0.0]] * 4)
    states = torch.tensor([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0], [3.0, 4.0]])
    assert rerouted(states, reference).tolist() == pytest.approx([1.0, 0.0, 0.0, 0.6])


def test_rerouting_turns_states_and_does_not_stretch_them():
    reference, state = drawn(3, 8), drawn(3, 8, seed=1)
    state = torch.where(((state * reference).sum(-1, keepdim=True) < 0), -state, state)
    state.requires_grad_(True)
    (gradient,) = torch.autograd.grad(rerouted(state, reference).sum(), state)
    assert (gradient * state).sum(-1).abs().max().item() < 1e-12
    size = reference.norm(dim=-1) * state.norm(dim=-1)
    cosine = (state * reference).sum(-1) / size
    expected = (
        reference / size[:, None]
        - cosine[:, None] * state / state.norm(dim=-1, keepdim=True).square()
    )
    assert torch.allclose(gradient, expected, atol=1e-10)


def test_states_that_stayed_have_distance_zero_and_a_finite_gradient():
    state = drawn(2, 4).requires_grad_(True)
    found = distance(state, state.detach())
    (gradient,) = torch.autograd.grad(found.sum(), state)
    assert found.tolist() == [0.0, 0.0]
    assert gradient.abs().max().item() == 0.0
    moved = state.detach() + torch.tensor([3.0, 4.0, 0.0, 0.0], dtype=torch.float64)
    assert distance(moved, state.detach()).tolist() == pytest.approx([5.0, 5.0])


def test_circuit_breakers_break_first_and_repair_later():
    terms = RR(alpha=10.0).terms(SHAPE)
    names = [term.name for term in terms]
    assert names == ["forget-10", "forget-20", "retain-10", "retain-20"]
    for progress, breaking, repairing in ((0.0, 5.0, 0.0), (0.5, 3.75, 1.25), (1.0, 2.5, 2.5)):
        coefs = [term.coef(progress) if callable(term.coef) else term.coef for term in terms]
        assert coefs == pytest.approx([breaking] * 2 + [repairing] * 2)


def test_one_layer_named_twice_is_one_term():
    assert [term.name for term in RR(layers="3, 3").terms(SHAPE)] == ["forget-3", "retain-3"]
    # In a very small model the two default layers fall together.
    assert len(RR().terms(Shape(layers=1, width=4))) == 2


@pytest.mark.parametrize("text", ["32", "3,x", "-2"])
def test_layers_that_are_not_there_are_refused(text):
    with pytest.raises(UsageError, match=r"no block|no list of blocks"):
        blocks(SHAPE, text, (0,))


def monte_carlo(states: torch.Tensor, draws: int = 200_000) -> float:
    """MMD^2 with expectations replaced by means over draws of N(0, I)."""
    width = states.shape[1]
    noise, other = drawn(draws, width, seed=3), drawn(draws, width, seed=4)
    total = 0.0
    for factor in WIDTHS:
        b = 2 * width * factor

        def kernel(first: torch.Tensor, second: torch.Tensor, b: float = b) -> float:
            return torch.exp(-(first - second).square().sum(-1) / b).mean().item()

        within = kernel(states[:, None], states[None])
        across = sum(kernel(state, noise) for state in states) / len(states)
        total += within - 2 * across + kernel(noise, other)
    return total / len(WIDTHS)


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_distance_to_noise_is_the_expectation_that_sampling_estimates(scale):
    states = scale * drawn(4, 6)
    assert noise_distance(states).item() == pytest.approx(monte_carlo(states), abs=3e-3)


@given(st.integers(1, 8), st.integers(1, 12), st.integers(0, 50), st.floats(0.0, 5.0))
def test_distance_to_noise_is_a_squared_distance(count, width, seed, scale):
    found = noise_distance(scale * drawn(count, width, seed=seed)).item()
    assert -1e-12 <= found <= 2.0


def test_noise_is_nearer_to_noise_than_anything_else():
    noise = drawn(400, 32)
    least = noise_distance(noise).item()
    assert least < 0.005
    for other in (0 * noise, 0.3 * noise, 2 * noise, noise + 1.0, noise[:1].expand(400, 32)):
        assert noise_distance(other).item() > 5 * least


def test_states_that_coincide_are_pushed_apart():
    """Without the sum within a record, every state would be drawn to zero."""
    states = (0.3 * drawn(1, 8).expand(2, 8) + 1e-3 * drawn(2, 8, seed=5)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(noise_distance(states), states)
    apart = (states[0] - states[1]).detach()
    assert -((gradient[0] - gradient[1]) @ apart).item() > 0  # descent moves them apart
    alone = (0.3 * drawn(1, 8)).requires_grad_(True)
    (inward,) = torch.autograd.grad(noise_distance(alone), alone)
    assert (inward * alone).sum().item() > 0  # descent shrinks a single state


def test_the_ascent_is_minus_the_log_of_one_plus_mean_nll_per_record():
    logp = torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64, requires_grad=True)
    seen = Answers(logp=logp, reference=None, sequence=torch.tensor([0, 0, 1]), size=2)
    loss = bounded_ascent(seen)
    assert loss.item() == pytest.approx(-math.log(2.5) - math.log(1.5))
    (gradient,) = torch.autograd.grad(loss, logp)
    assert gradient.tolist() == pytest.approx([0.5 / 2.5, 0.5 / 2.5, 1 / 1.5])


def test_repnoise_reaches_every_depth_once():
    terms = RepNoise(beta=0.6, ascent=0.9).terms(Shape(layers=3, width=16))
    noise = [term for term in terms if isinstance(term, Representation)]
    lens = [term for term in terms if isinstance(term, Likelihood) and term.layer is not None]
    assert [(t.layer, t.site, t.per) for t in noise] == [(i, "mlp", "sequence") for i in range(3)]
    assert [t.coef for t in noise] == pytest.approx([0.2] * 3)
    assert [(t.layer, t.coef) for t in lens] == [(i, pytest.approx(0.3)) for i in range(3)]
    assert terms[0].streams == (Stream.ALTERNATIVE,)
    assert len(RepNoise(layers="1").terms(Shape(layers=3, width=16))) == 4


def repnoise_value(records, tokens_per_pass: int) -> float:
    network = tiny.network(tiny.llama(dtype=torch.float64))
    term = RepNoise(layers="1").terms(Shape(layers=2, width=64))[1]
    observer = TermEvaluator(
        network=network,
        terms=(term,),
        streams=Streams(forget=records, retain=()),
        references=precompute(network, (term,), {}, pad_id=2, tokens_per_pass=4096),
        pad_id=2,
    )
    draw = BatchIndices(forget=tuple(range(len(records))), retain=())
    parts = observer.step_loss(draw, coefs={term.name: 1.0}, tokens_per_pass=tokens_per_pass)
    return sum(part.values[term.name] for part in parts)


def test_t17_a_record_alone_has_a_distance_and_no_batch_changes_it():
    records = tiny.encoded((5, 7), (3, 2), (6, 1), seed=4)
    alone = [repnoise_value((record,), 4096) for record in records]
    assert all(math.isfinite(value) for value in alone)
    for tokens_per_pass in (1, 20, 4096):
        together = repnoise_value(records, tokens_per_pass)
        assert together == pytest.approx(sum(alone) / 3, rel=1e-9)


def test_t17_no_hook_stays_on_the_model():
    network = tiny.network()
    before = [len(module._forward_hooks) for module in network.model.modules()]
    records = tiny.encoded((5, 7), seed=4)
    terms = RepNoise().terms(Shape(layers=2, width=64))[1:5]
    observer = TermEvaluator(
        network=network,
        terms=terms,
        streams=Streams(forget=records, retain=()),
        references=precompute(network, terms, {}, pad_id=2, tokens_per_pass=4096),
        pad_id=2,
    )
    coefs = {term.name: 1.0 for term in terms}
    for _ in range(3):
        list(
            observer.step_loss(
                BatchIndices(forget=(0,), retain=()), coefs=coefs, tokens_per_pass=99
            )
        )
    assert [len(module._forward_hooks) for module in network.model.modules()] == before
