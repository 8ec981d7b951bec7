"""Influence: one Newton step that takes the forget set out (arXiv:1703.04730; for unlearning
arXiv:2304.04934).

    theta <- theta + scale (n_f / n_r) (F_r + damping mean(F_r))^-1 grad L_f

L_f is the mean NLL per scored token of the forget set, n counts scored tokens. At a minimum of the
loss on all data the gradient of the retain part is -(n_f / n_r) grad L_f, so that a Newton step on
the retain loss alone goes there; F_r, the diagonal of the empirical Fisher information of up to
256 retain records, stands for its curvature. Exact for a quadratic loss with diagonal curvature.

Differs from published code: that uses the WoodFisher approximation of the inverse, record by
record. Where records are known by heart, gradient and Fisher information both vanish, and their
ratio says little: the step is halved until retained answers are within the utility budget. Called
weak on language models; with that step it stands first on 40 records of TOFU (docs/results.md).
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.methods.base import Shape, Stream, Trains
from expunge.methods.edits.base import Bench, Passes


def newton_step(gradient: Tensor, curvature: Tensor, damping: float, share: float) -> Tensor:
    """Return share * gradient / (curvature + damping); two tensors of one shape, damping > 0.

    Example:
        >>> from torch import ones
        >>> newton_step(ones(1), ones(1), damping=1.0, share=0.5)
        tensor([0.2500])
    """
    return share * gradient / (curvature + damping)


@dataclass(frozen=True, kw_only=True, slots=True)
class Influence:
    """Undo the forget set's pull on the weights, to first order."""

    family: ClassVar[str] = "influence"
    advice: ClassVar[str] = "one step; as far as the utility budget allows"
    streams: ClassVar[tuple[Stream, ...]] = ()

    scale: float = 1.0
    damping: float = 1.0
    """In units of the mean curvature."""
    halvings: int = 20
    """How often the step may be halved; 0: take it whatever it does."""

    def trains(self, shape: Shape) -> Trains | None:
        """Change all weights."""
        return None

    def passes(self) -> Passes:
        """One pass over the forget set, and curvature."""
        return Passes(forget=1, retain=0, weighed=(Stream.RETAIN,))

    def apply(self, bench: Bench) -> None:
        """Take the step."""
        with bench.stage(0.0, 0.7):
            curvature = bench.fisher(Stream.RETAIN)
        gradient = bench.gradient(Stream.FORGET)
        count = sum(value.numel() for value in curvature.values())
        mean = float(sum(value.double().sum() for value in curvature.values())) / count
        share = self.scale * bench.scored(Stream.FORGET) / bench.scored(Stream.RETAIN)
        steps = {
            name: newton_step(value, curvature[name], self.damping * mean, share)
            for name, value in gradient.items()
        }
        for name, step in steps.items():
            bench.weights[name].add_(step)
        for halving in range(self.halvings):
            if bench.state() != "damaged":
                return
            for name, step in steps.items():
                bench.weights[name].sub_(step, alpha=0.5 ** (halving + 1))
