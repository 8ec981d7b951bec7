"""SSD: selective synaptic dampening (arXiv:2308.07707).

    theta_i <- min(lambda F_r,i / F_f,i, 1) theta_i   where   F_f,i > alpha F_r,i

F are diagonals of the empirical Fisher information, on up to 256 records of the forget and of the
retain set: weights that matter much more for what is to be forgotten than for the rest shrink, in
one stroke.

Differs from published code: the second Fisher is that of the retain set alone. The paper's is that
of all training data, which nobody has; with the forget set inside, F_f could never be more than
(records in all) / (forget records) times as large, and small retain sets would shield everything.
Squares are of the gradient of one record, not of a batch.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.methods.base import Shape, Stream, Trains
from expunge.methods.edits.base import Bench, Passes


def dampened(weight: Tensor, forget: Tensor, retain: Tensor, alpha: float, lam: float) -> Tensor:
    """Return the dampened weights; three tensors of one shape, Fisher values >= 0.

    Example:
        >>> ones = torch.ones(2)
        >>> dampened(ones, torch.tensor([10.0, 0.1]), ones, alpha=1.0, lam=1.0)
        tensor([0.1000, 1.0000])
    """
    factor = (lam * retain / forget).clamp(max=1.0)
    return torch.where(forget > alpha * retain, factor * weight, weight)


@dataclass(frozen=True, kw_only=True, slots=True)
class SSD:
    """Shrink the weights that matter for the forget set alone."""

    family: ClassVar[str] = "influence"
    advice: ClassVar[str] = "no training; coarse, check what else it takes"
    streams: ClassVar[tuple[Stream, ...]] = ()

    alpha: float = 10.0
    lam: float = 1.0

    def trains(self, shape: Shape) -> Trains | None:
        """Change all weights."""
        return None

    def passes(self) -> Passes:
        """Importance for each set."""
        return Passes(forget=0, retain=0, weighed=(Stream.FORGET, Stream.RETAIN))

    def apply(self, bench: Bench) -> None:
        """Dampen every weight by its two Fisher values."""
        with bench.stage(0.0, 0.5):
            forget = bench.fisher(Stream.FORGET)
        with bench.stage(0.5, 1.0):
            retain = bench.fisher(Stream.RETAIN)
        for name, important in forget.items():
            weight = bench.weights[name]
            weight.copy_(dampened(weight, important, retain[name], self.alpha, self.lam))
