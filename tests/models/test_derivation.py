"""How one model came from another, from tensors alone: one planted change a row."""

import math

import pytest
import torch

from expunge.attacks.weight_space.quantization import quantise_dequantise
from expunge.models.derivation import Change, derivation

GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=GENERATOR)


AUDITED = {"a": normal(96, 256), "b": normal(64, 256), "norm": normal(256)}
ORIGINAL = {name: value + normal(*value.shape, scale=0.05) for name, value in AUDITED.items()}
SIBLING = {name: value + normal(*value.shape, scale=0.05) for name, value in AUDITED.items()}
PARTNERS = {"original": ORIGINAL, "sibling": SIBLING}


def each(change) -> dict[str, torch.Tensor]:
    return {name: change(value) for name, value in AUDITED.items()}


def low_rank(value: torch.Tensor) -> torch.Tensor:
    if value.dim() == 1:
        return value
    return value + normal(value.shape[0], 4, scale=0.05) @ normal(4, value.shape[1])


def quantised(bits: int, group: int | None):
    return each(lambda v: v if v.dim() == 1 else quantise_dequantise(v, bits=bits, group=group))


@pytest.mark.parametrize(
    ("judged", "change"),
    [
        (AUDITED, Change.NONE),
        (each(lambda v: v.to(torch.bfloat16)), Change.ROUNDED),
        (each(lambda v: v.to(torch.float16)), Change.ROUNDED),
        (quantised(8, None), Change.QUANTISED),
        (quantised(4, 128), Change.QUANTISED),
        (each(lambda v: torch.where(v.abs() < 0.3, 0.0, v)), Change.PRUNED),
        (each(low_rank), Change.ADAPTED),
        (each(lambda v: low_rank(v).to(torch.bfloat16)), Change.ADAPTED),
        (each(lambda v: v + normal(*v.shape, scale=0.01)), Change.FINE_TUNED),
        (each(lambda v: normal(*v.shape)), Change.UNKNOWN),
        ({**AUDITED, "a": AUDITED["a"][:50]}, Change.UNKNOWN),
        ({"a": AUDITED["a"]}, Change.UNKNOWN),
    ],
)
def test_a_planted_change_is_recognised(judged, change):
    assert derivation(judged, AUDITED, PARTNERS).change is change


@pytest.mark.parametrize("partner", PARTNERS)
@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_merge_is_recognised_with_partner_and_ratio(partner, ratio, kind):
    other = PARTNERS[partner]
    judged = {name: torch.lerp(AUDITED[name], other[name], ratio).to(kind) for name in AUDITED}
    found = derivation(judged, AUDITED, PARTNERS)
    assert (found.change, found.partner) == (Change.MERGED, partner)
    assert found.ratio == pytest.approx(ratio, abs=0.03)


def test_a_merge_with_nobody_that_was_named_reads_as_a_fine_tune():
    judged = {name: torch.lerp(AUDITED[name], SIBLING[name], 0.5) for name in AUDITED}
    found = derivation(judged, AUDITED, {"original": ORIGINAL})
    assert found.change is Change.FINE_TUNED
    assert 0 < found.distance < math.inf


@pytest.mark.parametrize("partner", PARTNERS)
@pytest.mark.parametrize("ratio", [0.02, 0.05, 0.1])
def test_a_merge_of_which_rounding_took_most_is_recognised(partner, ratio):
    """The audited weights lie on the grid of the format; the merge is smaller than its steps."""
    near = {
        name: {key: AUDITED[key] + 0.1 * (value[key] - AUDITED[key]) for key in AUDITED}
        for name, value in PARTNERS.items()
    }
    audited = each(lambda v: v.to(torch.bfloat16))
    judged = {
        name: torch.lerp(value.float(), near[partner][name], ratio).to(torch.bfloat16)
        for name, value in audited.items()
    }
    found = derivation(judged, audited, near)
    assert (found.change, found.partner) == (Change.MERGED, partner)
    assert found.ratio == pytest.approx(ratio, rel=0.05)


def test_noise_of_the_size_of_a_rounding_step_is_no_merge():
    audited = each(lambda v: v.to(torch.bfloat16))
    judged = {
        name: (value.float() * (1 + normal(*value.shape, scale=0.003))).to(torch.bfloat16)
        for name, value in audited.items()
    }
    assert derivation(judged, audited, PARTNERS).change is Change.FINE_TUNED
