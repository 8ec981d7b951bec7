"""Task vector: learn the forget set harder, then go the other way (arXiv:2212.04089).

    theta <- theta - alpha (theta_memorised - theta)

Differs from published code: theta_memorised wears a low-rank adapter trained for a few large
steps, where the paper fine-tunes all weights; so alpha is not comparable. As in MUSE's baseline
(trap T22) the start is the model itself, not a base model that nobody may have.
"""

from dataclasses import dataclass
from typing import ClassVar

from expunge.methods.base import Shape, Stream, Trains
from expunge.methods.edits.base import Bench, Passes, Reinforce


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskVector:
    """Subtract what memorising the forget set adds."""

    family: ClassVar[str] = "arithmetic"
    advice: ClassVar[str] = "cheap and simple; needs no retain data, and does not use any"
    streams: ClassVar[tuple[Stream, ...]] = ()

    alpha: float = 5.0
    steps: int = 10
    lr: float = 1e-3
    rank: int = 8

    def trains(self, shape: Shape) -> Trains | None:
        """Change all weights."""
        return None

    def passes(self) -> Passes:
        """The steps of memorising."""
        return Passes(forget=0, retain=0, memorising=self.steps)

    def apply(self, bench: Bench) -> None:
        """Subtract alpha times the displacement."""
        how = Reinforce(steps=self.steps, lr=self.lr, rank=self.rank, seed=bench.seed)
        moved = bench.displacement(range(bench.size(Stream.FORGET)), how)
        for name, value in moved.items():
            bench.weights[name].sub_(value, alpha=self.alpha)
