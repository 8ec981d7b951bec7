"""TIES: merge several displacements without interference, then subtract (arXiv:2306.01708).

    trim      keep the share `density` of each displacement's entries, the largest, zero the rest
    elect     sign_i of the sum over displacements
    merge     mean_i over the displacements that are not zero at i and have the elected sign
    theta <- theta - alpha * merged

The forget set is dealt into `parts`, and each part memorised on its own: what only one part moves,
or parts move in opposite directions, is chance; what they agree on is the set.

Differs from published code: the paper merges models of several tasks, the SemEval-2025 entry that
brought it to unlearning two unlearned adapters. Trimming is per weight matrix, as in that entry,
not over the whole vector.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.methods.base import Shape, Stream, Trains
from expunge.methods.edits.base import Bench, Passes, Reinforce


def trimmed(displacement: Tensor, density: float) -> Tensor:
    """Zero all but the largest entries by size; any shape, at least one entry stays."""
    kept = max(1, round(density * displacement.numel()))
    sizes = displacement.abs().flatten()
    least = sizes.kthvalue(sizes.numel() - kept + 1).values
    return torch.where(displacement.abs() >= least, displacement, torch.zeros_like(displacement))


def ties(displacements: Sequence[Tensor], density: float) -> Tensor:
    """Merge displacements of one weight: trim, elect the sign, mean of those that agree."""
    stacked = torch.stack([trimmed(value, density) for value in displacements])
    elected = stacked.sum(0).sign()
    agree = (stacked.sign() == elected) & (stacked != 0)
    return (stacked * agree).sum(0) / agree.sum(0).clamp(min=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ties:
    """Subtract what memorising several parts of the forget set has in common."""

    family: ClassVar[str] = "arithmetic"
    advice: ClassVar[str] = "like task-vector, with less noise in the weights; needs many records"
    streams: ClassVar[tuple[Stream, ...]] = ()

    alpha: float = 5.0
    parts: int = 4
    density: float = 0.8
    steps: int = 10
    lr: float = 1e-3
    rank: int = 8

    def trains(self, shape: Shape) -> Trains | None:
        """Change all weights."""
        return None

    def passes(self) -> Passes:
        """The steps of memorising each part."""
        return Passes(forget=0, retain=0, memorising=self.steps, parts=self.parts)

    def apply(self, bench: Bench) -> None:
        """Subtract alpha times the merged displacement."""
        order = list(range(bench.size(Stream.FORGET)))
        random.Random(f"{bench.seed} ties").shuffle(order)
        parts = min(self.parts, len(order))
        moved: list[dict[str, Tensor]] = []
        for part in range(parts):
            seed = bench.seed + part
            how = Reinforce(steps=self.steps, lr=self.lr, rank=self.rank, seed=seed)
            with bench.stage(part / parts, (part + 1) / parts):
                moved.append(bench.displacement(order[part::parts], how))
        for name in moved[0]:
            merged = ties([one[name] for one in moved], self.density)
            bench.weights[name].sub_(merged, alpha=self.alpha)
