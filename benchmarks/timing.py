"""Clocks of the benchmarks."""

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


class Clock:
    """Measures work on one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def seconds(self, work: Callable[[], float], values: list[float]) -> float:
        """Return how long `work` took; what it returned is added to `values`."""
        self._wait()
        started = time.perf_counter()
        values.append(work())
        self._wait()
        return time.perf_counter() - started

    def operations(self, work: Callable[[], float]) -> tuple[float, float]:
        """Return the floating-point operations of `work` and what it returned."""
        with FlopCounterMode(display=False) as counter:
            value = work()
        return float(counter.get_total_flops()), value

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()


def matmul_peak(device: torch.device) -> float:
    """Return the best FLOP/s of a float32 matrix product of the shapes of SmolLM2-135M."""
    rows = torch.randn(2048, 576, device=device)
    matrix = torch.randn(576, 1536, device=device)
    clock, kept = Clock(device), list[float]()
    clock.seconds(lambda: float((rows @ matrix)[0, 0]), kept)
    best = min(clock.seconds(lambda: float((rows @ matrix)[0, 0]), kept) for _ in range(20))
    return 2 * 2048 * 576 * 1536 / best
