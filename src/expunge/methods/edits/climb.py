"""Climb: move weights uphill in steps of one length, until the probes say that it is enough.

W <- W + lr G / |G|        |G| over all weights that move
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from expunge.methods.edits.protocol import Bench


def climb(
    bench: Bench,
    weights: Mapping[str, Tensor],
    uphill: Callable[[], Mapping[str, Tensor]],
    *,
    steps: int,
    lr: float,
) -> None:
    """Move weights uphill in steps of length `lr` over all of them, until it is enough.

    Stops when the forget answers look unseen, and takes the last step back when retained answers
    are over the budget.

    Args:
        bench: Has the probes.
        weights: What moves, in place.
        uphill: Computes the direction at the present weights, by name, in the same shapes.
        steps: Largest number of steps.
        lr: Euclidean length of a step.
    """
    for step in range(steps):
        direction = uphill()
        squares = torch.stack([value.double().square().sum() for value in direction.values()])
        scale = lr / float(squares.sum().sqrt().clamp(min=1e-30))
        for name, value in direction.items():
            weights[name].add_(value, alpha=scale)
        bench.progress((step + 1) / steps, f"step {step + 1} of {steps}")
        state = bench.state()
        if state == "damaged":
            for name, value in direction.items():
                weights[name].sub_(value, alpha=scale)
        if state != "going on":
            return
