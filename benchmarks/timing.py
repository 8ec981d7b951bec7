"""Clocks of the benchmarks."""

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


class Clock:
    """Measures work on one device.

    One thread of a processor is timed by the processor time that it takes, which other work on the
    machine hardly changes; several threads and graphics cards by the clock on the wall.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        alone = device.type == "cpu" and torch.get_num_threads() == 1
        self._now = time.process_time if alone else time.perf_counter

    def seconds(self, work: Callable[[], float], values: list[float]) -> float:
        """Return how long `work` took; what it returned is added to `values`."""
        self._wait()
        started = self._now()
        values.append(work())
        self._wait()
        return self._now() - started

    def operations(self, work: Callable[[], float]) -> tuple[float, float]:
        """Return the floating-point operations of `work` and what it returned."""
        with FlopCounterMode(display=False) as counter:
            value = work()
        return float(counter.get_total_flops()), value

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Return the best FLOP/s of a matrix product of the shapes of SmolLM2-135M."""
    rows = torch.randn(2048, 576, device=device, dtype=dtype)
    matrix = torch.randn(576, 1536, device=device, dtype=dtype)
    clock, kept = Clock(device), list[float]()
    clock.seconds(lambda: float((rows @ matrix)[0, 0]), kept)
    best = min(clock.seconds(lambda: float((rows @ matrix)[0, 0]), kept) for _ in range(20))
    return 2 * 2048 * 576 * 1536 / best
