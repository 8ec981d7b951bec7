"""Attention over short rows is PyTorch's own, there and back, to the rounding of its format."""

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from expunge.models.cpu_kernels import LONGEST, is_short, short_attention

Attend = Callable[[Tensor, Tensor, Tensor, float], Tensor]
Inputs = Iterable[Tensor]


def _own(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    return functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scale, enable_gqa=True
    )


def _grown(attend: Attend, inputs: Inputs, slope: Tensor) -> tuple[Tensor, ...]:
    query, key, value = (tensor.clone().requires_grad_() for tensor in inputs)
    found = attend(query, key, value, 0.3)
    return found.detach(), *torch.autograd.grad(found, (query, key, value), slope)


def _drawn(heads: int, groups: int, length: int) -> tuple[list[Tensor], Tensor]:
    """Return query, key and a narrower value, laid out as models hand them over, and a slope."""
    shapes = ((heads, 8), (groups, 8), (groups, 5))
    inputs = [torch.randn(3, length, *shape, dtype=torch.float64) for shape in shapes]
    slope = torch.randn(3, length, heads, 5, dtype=torch.float64)
    return [each.transpose(1, 2) for each in inputs], slope.transpose(1, 2)


@pytest.mark.parametrize(("heads", "groups"), [(2, 2), (6, 2), (5, 1)])
@pytest.mark.parametrize("length", [1, 2, 7, 60])
def test_it_is_attention_in_double_precision(length: int, heads: int, groups: int) -> None:
    torch.manual_seed(length)
    inputs, slope = _drawn(heads, groups, length)
    for ours, theirs in zip(
        _grown(short_attention, inputs, slope), _grown(_own, inputs, slope), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_in_16_bits_it_is_as_near_to_the_truth_as_pytorch() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(4, heads, 50, 64).bfloat16() for heads in (6, 2, 2)]
    slope = torch.randn(4, 6, 50, 64).bfloat16()
    truth = _grown(_own, [x.double() for x in inputs], slope.double())
    ours, own = _grown(short_attention, inputs, slope), _grown(_own, inputs, slope)
    for exact, mine, theirs in zip(truth, ours, own, strict=True):
        far = (mine.double() - exact).norm() / exact.norm()
        assert far < max(2 * (theirs.double() - exact).norm() / exact.norm(), 0.01)


@pytest.mark.parametrize(
    ("dtype", "length", "expected"),
    [
        (torch.bfloat16, LONGEST, True),
        (torch.bfloat16, LONGEST + 1, False),
        (torch.float32, 10, False),
        (torch.float64, 10, False),
    ],
)
def test_it_serves_short_rows_in_16_bits(dtype: torch.dtype, length: int, expected: bool) -> None:
    assert is_short(torch.zeros(1, 1, length, 4, dtype=dtype)) is expected
