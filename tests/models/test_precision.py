"""The number format: as asked, or what the processor is made for, whatever else it is doing."""

import time
from types import SimpleNamespace
from typing import Literal

import pytest
import torch

from expunge.models import number_formats
from expunge.models.number_formats import choose_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("asked", "units", "vectors", "name", "width", "expected"),
    [
        ("fp32", True, True, "AMD EPYC", 4096, torch.float32),
        ("bf16", False, False, "", 8, torch.bfloat16),
        ("auto", True, True, "Intel Xeon", 576, torch.bfloat16),
        ("auto", True, True, "Intel Xeon", 255, torch.float32),
        ("auto", True, True, "Intel Xeon", 256, torch.bfloat16),
        ("auto", False, True, "Intel Xeon", 576, torch.float32),
        ("auto", False, True, "AMD EPYC", 576, torch.bfloat16),
        ("auto", False, False, "AMD EPYC", 576, torch.float32),
    ],
)
def test_a_processor_that_is_made_for_bf16_computes_in_it(
    asked: Literal["auto", "fp32", "bf16"],
    units: bool,
    vectors: bool,
    name: str,
    width: int,
    expected: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: units)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: vectors)
    monkeypatch.setattr(number_formats, "processor", lambda: name)
    assert choose_dtype(asked, CPU, width=width) == expected


@pytest.mark.parametrize(("major", "expected"), [(7, torch.float32), (8, torch.bfloat16)])
def test_a_card_that_only_emulates_bf16_computes_in_float32(
    major: int, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    def properties(_device: object) -> SimpleNamespace:
        return SimpleNamespace(major=major)

    def emulates(_device: object) -> bool:
        return True

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", emulates)
    assert choose_dtype("auto", torch.device("cuda"), width=4096) == expected


def test_the_choice_asks_the_processor_and_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> float:
        raise AssertionError("a busy machine would choose otherwise")

    monkeypatch.setattr(time, "perf_counter", never)
    found = {choose_dtype("auto", CPU, width=4096) for _ in range(2)}
    assert len(found) == 1
    assert found <= {torch.float32, torch.bfloat16}
