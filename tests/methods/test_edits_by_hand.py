"""Edits: the formula of each, by hand on small numbers."""

import math
from dataclasses import dataclass, field

import pytest
import torch

from expunge.methods.edits.base import Moments
from expunge.methods.edits.closed_form import null_space, rewriting
from expunge.methods.edits.influence import newton_step
from expunge.methods.edits.lunar import redirection
from expunge.methods.edits.repselect import selected
from expunge.methods.edits.ssd import dampened
from expunge.methods.edits.subspace import climb, collapse, principal, softened
from expunge.methods.edits.ties import ties, trimmed
from expunge.methods.edits.undo import damage


def tensor(*rows: object) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_dampening_by_hand():
    weight = tensor([1.0, -2.0], [3.0, 4.0])
    forget = tensor([20.0, 10.0], [5.0, 0.0])
    retain = tensor([1.0, 1.0], [1.0, 0.0])
    # Only 20 > 10 * 1: ten times as important is not more than ten times as important.
    assert torch.equal(dampened(weight, forget, retain, 10.0, 1.0), tensor([0.05, -2.0], [3.0, 4]))
    found = dampened(weight, forget, retain, 2.0, 1.0)
    assert torch.allclose(found, tensor([0.05, -0.2], [0.6, 4.0]), rtol=0, atol=1e-15)
    # Never amplified.
    assert torch.equal(dampened(weight, forget, retain, 2.0, 100.0), weight)


def test_ties_by_hand():
    first = tensor([4.0, -1.0], [0.5, 2.0])
    second = tensor([2.0, 3.0], [-0.25, -1.0])
    assert torch.equal(trimmed(first, 0.5), tensor([4.0, 0.0], [0.0, 2.0]))
    # Trimmed: [4, 0, 0, 2] and [2, 3, 0, 0]; nothing disagrees.
    assert torch.equal(ties([first, second], 0.5), tensor([3.0, 3.0], [0.0, 2.0]))
    # Untrimmed: signs of the sums are + + + +, so -1, -0.25 and -1 do not take part.
    assert torch.equal(ties([first, second], 1.0), tensor([3.0, 3.0], [0.5, 2.0]))
    # A tie in the election leaves nothing.
    assert torch.equal(ties([tensor(1.0), tensor(-1.0)], 1.0), tensor(0.0))


def test_trimming_keeps_one_entry_at_least():
    assert trimmed(tensor(1.0, -3.0, 2.0), 0.0).tolist() == [0.0, -3.0, 0.0]


def test_the_influence_step_takes_a_quadratic_to_its_retain_minimum():
    """Loss of a set with n tokens: (n/2) sum_i h_i (theta_i - m_i)^2."""
    forget_at, retain_at = tensor(1.0, -2.0), tensor(3.0, 5.0)
    forget_h, retain_h, forget_n, retain_n = tensor(2.0, 1.0), tensor(4.0, 0.5), 3, 7
    pull = forget_n * forget_h * forget_at + retain_n * retain_h * retain_at
    both = pull / (forget_n * forget_h + retain_n * retain_h)
    gradient = forget_h * (both - forget_at)
    step = newton_step(gradient, retain_h, 0.0, forget_n / retain_n)
    assert torch.allclose(both + step, retain_at, atol=1e-12)
    damped = newton_step(gradient, retain_h, 1e6, forget_n / retain_n)
    assert damped.norm() < 1e-4 * step.norm()


def test_the_redirection_is_the_minimum_of_its_objective():
    forget, retain, wanted = drawn(20, 6), drawn(30, 6, seed=1), drawn(4, seed=2)
    weight, ridge = 3.0, 0.1

    def moments(keys):
        return Moments(keys.mean(0), keys.T @ keys / len(keys), len(keys))

    def objective(change):
        off = (forget @ change.T - wanted).square().sum(1).mean()
        moved = (retain @ change.T).square().sum(1).mean()
        return off + weight * moved + scale * change.square().sum()

    scale = ridge * moments(forget).second.diagonal().mean()
    best = redirection(wanted, moments(forget), moments(retain), weight, ridge).requires_grad_()
    (gradient,) = torch.autograd.grad(objective(best), best)
    assert gradient.abs().max().item() < 1e-12
    assert torch.linalg.matrix_rank(best).item() == 1
    for seed in range(5):
        nearby = best.detach() + 1e-3 * drawn(4, 6, seed=seed)
        assert objective(nearby) > objective(best)


def test_a_rewritten_matrix_maps_kept_keys_as_before():
    kept = drawn(9, 16) @ torch.diag(tensor(*([1.0] * 6), *([0.0] * 10)))
    keys, wanted = drawn(3, 16, seed=1), drawn(3, 5, seed=2)
    projector = null_space(kept.T @ kept / 9, 1e-12)
    assert torch.allclose(projector @ projector, projector, atol=1e-10)
    assert round(projector.trace().item()) == 10
    change = rewriting(keys, wanted, projector, 1e-9)
    assert (kept @ change.T).abs().max().item() < 1e-10
    assert torch.allclose(keys @ change.T, wanted, atol=1e-5)
    # Ridge regression on projected keys, in its other form.
    ridge = 0.3
    size = ridge * keys.square().sum(1).mean()
    free = keys @ projector
    expected = wanted.T @ free @ torch.linalg.inv(free.T @ free + size * torch.eye(16))
    assert torch.allclose(rewriting(keys, wanted, projector, ridge), expected, atol=1e-10)


def test_the_null_space_holds_no_more_energy_than_allowed():
    second = torch.diag(tensor(90.0, 6.0, 3.0, 1.0))
    for share, free in ((0.0, 0), (0.01, 1), (0.04, 2), (0.099, 2), (0.1, 3)):
        assert round(null_space(second, share).trace().item()) == free


def test_collapse_removes_given_components_exactly():
    directions = torch.linalg.qr(drawn(8, 3)).Q
    vectors = drawn(50, 8, seed=1)
    left = collapse(vectors, directions, torch.zeros(3))
    assert (left @ directions).abs().max().item() < 1e-12
    outside = torch.linalg.qr(torch.cat([directions, drawn(8, 5, seed=2)], 1)).Q[:, 3:]
    assert torch.allclose(left @ outside, vectors @ outside, atol=1e-12)
    half = collapse(vectors, directions, torch.full((3,), 0.5))
    assert torch.allclose(half @ directions, 0.5 * vectors @ directions, atol=1e-12)
    assert torch.equal(collapse(vectors, directions, torch.ones(3)), vectors)


def test_principal_components_are_the_largest_and_come_down_to_the_smallest():
    second = torch.diag(tensor(1.0, 9.0, 0.0, 4.0))
    found = principal(second, 0.5)
    assert found.values.tolist() == pytest.approx([9.0, 4.0])
    assert found.directions.abs().argmax(0).tolist() == [1, 3]
    assert len(principal(second, 1.0).values) == 3  # the one without energy is none
    assert softened(tensor([9.0, 9.0, 9.0, 9.0]), found).tolist() == [
        pytest.approx([9.0, 4.0, 9.0, 9.0])
    ]


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_selection_turns_large_singular_values_round(shape):
    left, _, right = torch.linalg.svd(drawn(*shape), full_matrices=False)
    before = tensor(8.0, 4.0, 2.0, 1.0, 0.5, 0.25)
    gradient = left @ torch.diag(before) @ right
    expected = left @ torch.diag(tensor(0.5, 1.0, 2.0, 1.0, 0.5, 0.25)) @ right
    assert torch.allclose(selected(gradient, 0.5), expected, atol=1e-10)


def test_t21_damage_shrinks_and_adds_noise_only_where_asked():
    weight = torch.ones(40, 60)
    shrunk = damage(weight, 0.25, 0.0, torch.Generator().manual_seed(0))
    assert torch.equal(shrunk, 0.75 * weight)
    noisy = damage(weight, 0.6, 0.1, torch.Generator().manual_seed(0))
    again = damage(weight, 0.6, 0.1, torch.Generator().manual_seed(0))
    assert torch.equal(noisy, again)
    noise = (noisy - 0.4 * weight) / 0.06
    assert noise.std().item() == pytest.approx(math.sqrt(2 / 100), rel=0.05)
    assert abs(noise.mean().item()) < 0.01
    gains = torch.ones(40)
    assert torch.equal(damage(gains, 0.5, 1.0, torch.Generator().manual_seed(0)), 0.5 * gains)


@dataclass
class Probes:
    """A bench that only answers how the probes look."""

    answers: list[str]
    shares: list[float] = field(default_factory=list)

    def state(self):
        return self.answers.pop(0)

    def progress(self, share, text):
        self.shares.append(share)


@pytest.mark.parametrize(
    ("answers", "length"),
    [
        (["going on"] * 3, 1.5),
        (["going on", "forgotten", "never asked"], 1.0),
        (["going on", "going on", "damaged"], 1.0),
        (["damaged"], 0.0),
    ],
)
def test_climbing_stops_in_time(answers, length):
    weights = {"a": torch.zeros(2), "b": torch.zeros(1)}
    uphill = {"a": torch.tensor([0.0, 2.0]), "b": torch.tensor([2.0])}
    climb(Probes(answers), weights, lambda: uphill, steps=3, lr=0.5)
    moved = torch.cat([weights["a"], weights["b"]])
    assert moved.norm().item() == pytest.approx(length)
    assert weights["a"][0].item() == 0.0
