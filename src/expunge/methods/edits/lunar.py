"""LUNAR: redirect the forget set to where the model says that it does not know (arXiv:2502.07218).

    r = mean h_l(questions that nobody can answer) - mean h_l(forget questions)
    minimise over D:  (1/N_f) sum_f |D k - c r|^2 + weight (1/N_r) sum_r |D k|^2 + ridge |D|_F^2
    W <- W + D,       D = c r m_f^T (M_f + weight M_r + ridge I)^-1

h_l are states after block l at the last position before the answer; k the inputs of the second MLP
matrix W of that block, m and M their mean and second moment. Only W changes, by a matrix of rank
one, so that forget states move by c r and retain states stay.

Differs from published code: that finds D by gradient descent, this is its minimum (ridge
regression). Keys are those of positions that predict scored tokens. The reference questions are
about invented people and things, as one of the paper's two choices, not harmful requests.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.methods.base import MLP_OUT, Shape, Stream, Trains
from expunge.methods.edits.base import Bench, Moments, Passes
from expunge.methods.hidden_states import block


def redirection(
    wanted: Tensor, forget: Moments, retain: Moments, weight: float, ridge: float
) -> Tensor:
    """Return the change D of a matrix, [d, k] float64, that moves forget keys by `wanted`, [d].

    `ridge` is in units of the mean diagonal of the forget keys' second moment.
    """
    second = forget.second + weight * retain.second
    second.diagonal().add_(ridge * forget.second.diagonal().mean())
    return torch.outer(wanted.to(second), torch.linalg.solve(second, forget.mean))


@dataclass(frozen=True, kw_only=True, slots=True)
class LUNAR:
    """Move forget states into the region of unanswerable questions by one matrix."""

    family: ClassVar[str] = "edit"
    advice: ClassVar[str] = "minutes; questions about facts, for models that know how to decline"
    streams: ClassVar[tuple[Stream, ...]] = (Stream.UNANSWERABLE,)

    layer: int = -1
    """Block whose second MLP matrix changes; -1: 22/32 of the way up."""
    coefficient: float = 2.0
    weight: float = 1.0
    ridge: float = 1e-3

    def trains(self, shape: Shape) -> Trains | None:
        """Change one matrix."""
        layer = self._layer(shape)
        return Trains(modules=MLP_OUT, first_layer=layer, last_layer=layer)

    def passes(self) -> Passes:
        """One forward pass over retain, two over forget; a pass back costs twice as much."""
        return Passes(forget=1, retain=0.4)

    def apply(self, bench: Bench) -> None:
        """Solve for the change and add it."""
        layer = self._layer(bench.shape)
        unknown = bench.states(Stream.UNANSWERABLE, layer, "end").mean(0)
        direction = unknown - bench.states(Stream.FORGET, layer, "end").mean(0)
        forget = bench.key_moments(Stream.FORGET, layer, "scored")
        bench.progress(0.5, "direction and keys of the forget set")
        retain = bench.key_moments(Stream.RETAIN, layer, "scored")
        change = redirection(self.coefficient * direction, forget, retain, self.weight, self.ridge)
        bench.output(layer).add_(change)

    def _layer(self, shape: Shape) -> int:
        return block(shape, self.layer, shape.layers * 22 // 32)
