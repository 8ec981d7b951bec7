"""CIR: collapse of irrelevant representations (arXiv:2509.11816).

    W <- W + lr G / |G|,   G = sum_t f(g_t) f(a_t)^T   over relevant tokens t of the forget set

a_t are inputs of a matrix, g_t gradients of the summed NLL at its outputs: without f, G is the
gradient of the NLL. f brings the largest principal components down to the size of the smallest of
them: directions shared by all text, whose change does damage, and which fine-tuning restores first.
A token is relevant where f leaves much of its input: |f(a_t)| / |a_t| above the quantile.
|G| is over all matrices. Components and relevance are those of the original.

Differs from published code: that lowers the MLPs' outputs along their old values ("MLP breaking"),
this raises the NLL; components are shares of the width (400 of 4096 inputs, 50 of 14336 outputs of
a Llama-3.1-8B), so that small models need no others; they are not computed again each epoch.
Memory: two second moments for each matrix, [in, in] and [out, out].
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.methods.base import MLP_IN, Shape, Stream, Trains
from expunge.methods.edits.base import Bench, Passes
from expunge.methods.edits.subspace import climb, softened, token_components


@dataclass(frozen=True, kw_only=True, slots=True)
class CIR:
    """Raise the NLL of the forget set along directions that other text does not use."""

    family: ClassVar[str] = "edit"
    advice: ClassVar[str] = "domains of knowledge that fine-tuning must not bring back; tune lr"
    streams: ClassVar[tuple[Stream, ...]] = ()

    input_share: float = 0.1
    output_share: float = 0.0035
    quantile: float = 0.9
    lr: float = 0.3
    steps: int = 20

    def trains(self, shape: Shape) -> Trains | None:
        """Change the matrices with which the MLPs read."""
        return Trains(modules=MLP_IN, first_layer=0, last_layer=shape.layers - 1)

    def passes(self) -> Passes:
        """Two passes for statistics, one for each step."""
        return Passes(forget=2 + self.steps, retain=0)

    def apply(self, bench: Bench) -> None:
        """Gather statistics, then climb."""
        shared, risen = token_components(bench, self.input_share, self.output_share)
        relevances: dict[str, list[Tensor]] = {name: [] for name in shared}

        def relevance(name: str, a: Tensor) -> Tensor:
            return softened(a, shared[name]).norm(dim=-1) / a.norm(dim=-1).clamp(min=1e-12)

        def rank(name: str, a: Tensor, _g: Tensor) -> None:
            relevances[name].append(relevance(name, a))

        bench.tokens(Stream.FORGET, rank)
        limits = {
            name: torch.cat(several).quantile(self.quantile) for name, several in relevances.items()
        }
        matrices = {name: bench.matrix(name) for name in shared}

        def uphill() -> dict[str, Tensor]:
            total = {name: torch.zeros_like(value) for name, value in matrices.items()}

            def add(name: str, a: Tensor, g: Tensor) -> None:
                chosen = relevance(name, a) >= limits[name]
                specific = softened(a[chosen], shared[name])
                total[name] += softened(g[chosen], risen[name]).T @ specific

            bench.tokens(Stream.FORGET, add)
            return total

        climb(bench, matrices, uphill, steps=self.steps, lr=self.lr)
