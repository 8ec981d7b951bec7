"""The number format: as asked, and measured where the choice is left open."""

from typing import Literal

import pytest
import torch

from expunge.model import precision
from expunge.model.precision import choose_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("asked", "gain", "width", "expected"),
    [
        ("fp32", 9.0, 4096, torch.float32),
        ("bf16", 0.1, 8, torch.bfloat16),
        ("auto", 6.0, 576, torch.bfloat16),
        ("auto", 1.5, 256, torch.bfloat16),
        ("auto", 1.4, 576, torch.float32),
        ("auto", 6.0, 255, torch.float32),
    ],
)
def test_a_processor_computes_in_what_it_multiplies_clearly_faster(
    asked: Literal["auto", "fp32", "bf16"],
    gain: float,
    width: int,
    expected: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "_gain_of_bf16", lambda: gain)
    assert choose_dtype(asked, CPU, width=width) == expected


def test_the_gain_is_measured_and_not_negligible_or_absurd() -> None:
    found = precision._gain_of_bf16()  # pyright: ignore[reportPrivateUsage]
    assert 0.001 < found < 1000
