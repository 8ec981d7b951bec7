"""AdamW with moments of one byte: levels, rounding, steps near AdamW's."""

import pytest
import torch

from expunge.optim.optimizers.adamw import AdamW
from expunge.optim.optimizers.adamw_8bit import AdamW8bit, levels, packed, unpacked


@pytest.mark.parametrize("signed", [True, False])
def test_there_are_256_levels_over_seven_decades(signed):
    table = levels(signed=signed)
    assert len(table) == 256
    assert torch.equal(table, table.sort().values)
    positive = table[table > 0]
    # The lowest decade is cut in one piece for m, in two for v: 1e-6 * 0.55, or 1e-6 * 0.325.
    assert positive.min().item() == pytest.approx(5.5e-7 if signed else 3.25e-7)
    assert (table.max().item(), (table < 0).any().item()) == (1.0, signed)


def test_values_are_rounded_to_levels_of_their_block():
    values = torch.zeros(2, 300)
    values[0, :3] = torch.tensor([8.0, -4.0, 0.8])  # first block of row 0: scale 8
    values[0, 256] = 1e-3  # second block: its own scale
    codes, scale = packed(values, levels(signed=True))
    assert codes.shape == (2, 300)
    assert codes.dtype == torch.uint8
    assert scale.tolist() == [[8.0, pytest.approx(1e-3)], [0.0, 0.0]]
    back = unpacked(codes, scale, levels(signed=True))
    # The top decade has 64 levels in [0.1, 1], 0.9 / 64 apart: -0.5 lies between two of them.
    assert back[0, 0].item() == 8.0
    assert back[0, 1].item() == pytest.approx(-4.0, abs=8 * 0.9 / 128)
    assert back[0, 256].item() == pytest.approx(1e-3)
    assert back[1].abs().max().item() == 0.0
    assert torch.equal(packed(back, levels(signed=True))[0][0, :2], codes[0, :2])


def test_small_moments_beside_large_ones_keep_their_size():
    values = torch.logspace(-5, 0, 256).unsqueeze(0)
    back = unpacked(*packed(values, levels(signed=False)), levels(signed=False))
    assert ((back - values).abs() / values).max().item() < 0.6
    linear = (values * 255).round() / 255
    assert ((linear - values).abs() / values).max().item() == 1.0  # what equal steps would lose


@pytest.mark.parametrize("shape", [(32, 300), (4, 8, 300)], ids=["matrix", "experts in one"])
def test_steps_are_near_those_of_adamw_and_moments_take_a_quarter(shape):
    generator = torch.Generator().manual_seed(0)
    start, goal = (torch.randn(shape, generator=generator) for _ in range(2))
    found = []
    for make in (AdamW(), AdamW8bit()):
        weight = start.clone().requires_grad_(True)
        optimiser = make.make({"w": weight}, 0.05, 0.01)
        for _ in range(60):
            optimiser.zero_grad()
            ((weight - goal) ** 2).sum().backward()
            optimiser.step()
        found.append((weight.detach(), optimiser.state[weight]))
    (exact, moments), (near, kept) = found
    assert (near - goal).norm() < 0.5 * (start - goal).norm()
    assert (near - exact).norm() < 0.05 * (exact - start).norm()
    sizes = [sum(t.numel() * t.element_size() for t in held.values()) for held in (moments, kept)]
    assert sizes[1] < 0.27 * sizes[0]


def test_small_weights_keep_float32_moments_and_step_exactly_as_adamw():
    weights = [torch.linspace(-1, 1, 50).requires_grad_(True) for _ in range(2)]
    optimisers = [
        make.make({"w": w}, 0.1, 0.1)
        for make, w in zip((AdamW(), AdamW8bit()), weights, strict=True)
    ]
    for _ in range(5):
        for weight, optimiser in zip(weights, optimisers, strict=True):
            weight.grad = weight.detach().sin() + 0.3
            optimiser.step()
    assert torch.allclose(*weights, atol=1e-6)
    assert set(optimisers[1].state[weights[1]]) == {"step", "mean", "square"}
