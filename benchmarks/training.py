"""The rows of training: one optimiser step of each side, in turns."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from expunge.utils.system import keep_freed_memory, peak_gib
from sides import MODES, Mode, Ours, Theirs, Work, initial
from testbed import Bench
from timing import Clock, matmul_peak
from turns import Side

STEPS = 4
"""Timed steps of a row, after one that warms up and counts operations."""


class Taken(NamedTuple):
    """A step that one side has taken."""

    seconds: float
    loss: float
    """Before the step."""
    operations: float
    """Of the step that warms up; 0 of the others."""
    peak: float
    """GiB that the process has held at most so far."""
    once: float = 0.0
    """Seconds for what is asked of the original once, shared out among the steps of a run."""
    lower: float = 0.0
    """Seconds for the states under the lowest trained block, of one record."""
    planned: float = 0.0
    """GiB that the peak should be."""


def stepping(
    given: argparse.Namespace, side: str, method: str, mode: Mode
) -> Callable[[int], Taken]:
    """Build one side of a training row; what it returns takes a step."""
    if side == "expunge":
        keep_freed_memory()  # as the command line does
    bench = Bench(given)
    draws = [bench.order.draw(step) for step in range(STEPS + 1)]
    clock = Clock(bench.device)
    known = Taken(0.0, 0.0, 0.0, 0.0)
    if side == "expunge":
        ours = Ours(bench.load().network, method, mode, bench.streams, draws, clock)
        known = known._replace(
            once=ours.once_per_step(bench.order),
            lower=ours.lower_seconds,
            planned=ours.planned_gib(bench.order),
        )
        take = ours.step
    else:
        work = Work(method=method, mode=mode, streams=bench.streams)
        reference = bench.load().network.model if work.has_reference else None
        start = initial(bench.load().network, mode)
        take = Theirs(bench.load().network.model, reference, work, start).step

    def step(number: int) -> Taken:
        values: list[float] = []
        operations = 0.0
        if number == 0:
            operations, value = clock.operations(lambda: take(draws[0]))
            seconds, values = 0.0, [value]
        else:
            seconds = clock.seconds(lambda: take(draws[number]), values)
        return known._replace(
            seconds=seconds, loss=values[0], operations=operations, peak=high_water(bench.device)
        )

    return step


def training(given: argparse.Namespace, method: str, weights: str) -> dict[str, object]:
    """Time one method on both sides, step by step in turns."""
    bench, mode = Bench(given), MODES[weights]
    with Side(stepping, given, "expunge", method, mode) as ours:
        warm = ours(0)  # it is there now, and what it asked of the original was timed alone
        with Side(stepping, given, "peer", method, mode) as peer:
            sides = {"peer": peer, "expunge": ours}
            taken = {"peer": [peer(0)], "expunge": [warm]}
            for step in range(1, STEPS + 1):
                for name, side in sides.items():
                    taken[name].append(side(step))
    peak = matmul_peak(bench.device, bench.dtype)
    seconds = {name: [each.seconds for each in steps[1:]] for name, steps in taken.items()}
    losses = {name: [each.loss for each in steps] for name, steps in taken.items()}
    last = {name: steps[-1] for name, steps in taken.items()}
    spent = {name: min(each) for name, each in seconds.items()}
    steps, once = bench.order.steps_per_epoch, last["expunge"].once
    work = Work(method=method, mode=mode, streams=bench.streams)
    draws = [bench.order.draw(step) for step in range(1, STEPS + 1)]
    tokens = sum(len(r.ids) for draw in draws for r in work.drawn(draw)) / STEPS
    return {
        "ratio": spent["peer"] / (spent["expunge"] + once),
        "ratio_step": spent["peer"] / spent["expunge"],
        "loss_difference": max(
            abs(a - b) / max(1.0, abs(a))
            for a, b in zip(losses["peer"], losses["expunge"], strict=True)
        ),
        "losses": losses,
        "step_seconds": seconds,
        "once_per_step": once,
        "lower_per_record": last["expunge"].lower,
        "pass_seconds": {
            "peer": spent["peer"] * steps,
            "expunge": (spent["expunge"] + once) * steps,
        },
        "tokens_per_second": {
            "peer": tokens / spent["peer"],
            "expunge": tokens / (spent["expunge"] + once),
        },
        "peak_share": {
            name: each[0].operations / spent[name] / peak for name, each in taken.items()
        },
        "matmul_peak": peak,
        "memory": {
            "peer": {"peak": last["peer"].peak},
            "expunge": {"peak": last["expunge"].peak, "planned": last["expunge"].planned},
        },
    }


def high_water(device: torch.device) -> float:
    """Return the most memory of the device that this process has held, GiB.

    Not `ru_maxrss`, which on Linux starts from what the parent held.
    """
    if device.type == "cuda":
        return peak_gib(device)
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20
