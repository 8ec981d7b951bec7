"""The number format: as asked, or what the processor is made for, whatever else it is doing."""

import time
from typing import Literal

import pytest
import torch

from expunge.model.precision import choose_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("asked", "units", "width", "expected"),
    [
        ("fp32", True, 4096, torch.float32),
        ("bf16", False, 8, torch.bfloat16),
        ("auto", True, 576, torch.bfloat16),
        ("auto", True, 256, torch.bfloat16),
        ("auto", False, 576, torch.float32),
        ("auto", True, 255, torch.float32),
    ],
)
def test_a_processor_with_matrix_units_for_bf16_computes_in_it(
    asked: Literal["auto", "fp32", "bf16"],
    units: bool,
    width: int,
    expected: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: units)
    assert choose_dtype(asked, CPU, width=width) == expected


def test_the_choice_asks_the_processor_and_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> float:
        raise AssertionError("a busy machine would choose otherwise")

    monkeypatch.setattr(time, "perf_counter", never)
    found = {choose_dtype("auto", CPU, width=4096) for _ in range(2)}
    assert len(found) == 1
    assert found <= {torch.float32, torch.bfloat16}
