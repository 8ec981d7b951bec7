"""UNDO: suppress, damage, distil (arXiv:2506.06278).

    1. train      gamma KL(U || p) on forget, KL(p_ref || p) on retain: the teacher
    2. damage     theta <- (1 - alpha) theta + alpha beta N
    3. distil     KL(p_teacher || p) on retain, from the damaged weights

N is Gaussian noise of Xavier size, sqrt(2 / (fan_in + fan_out)), in matrices; vectors, such as the
gains of norms, only shrink. A suppressed model still holds what it does not say. The student learns
the teacher's behaviour and little else, the more so the larger alpha, and the more it costs.

Differs from published code: distillation runs over the retain records, where the authors use text
like that of pretraining, which they say matters. Their released run has alpha 0.25 and beta 0,
pure shrinkage (trap T21), and so have the defaults; the paper's headline is 0.6 and 0.1.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.methods.base import Shape, Stream, Trains
from expunge.methods.edits.base import Bench, Passes
from expunge.methods.maxent import MaxEnt
from expunge.methods.retain_losses import retain_terms


def damage(weight: Tensor, alpha: float, beta: float, generator: torch.Generator) -> Tensor:
    """Return (1 - alpha) weight + alpha beta N, N drawn on the CPU for matrices and 0 else."""
    shrunk = (1 - alpha) * weight
    if weight.ndim < 2:
        return shrunk
    size = (2 / sum(weight.shape[-2:])) ** 0.5
    noise = torch.randn(weight.shape, generator=generator) * size
    return shrunk + alpha * beta * noise.to(shrunk)


@dataclass(frozen=True, kw_only=True, slots=True)
class UNDO:
    """Distil a suppressed model into its damaged self."""

    family: ClassVar[str] = "distillation"
    advice: ClassVar[str] = "against relearning; costs two trainings of all weights and much data"
    streams: ClassVar[tuple[Stream, ...]] = ()

    alpha: float = 0.25
    beta: float = 0.0
    gamma: float = 1.0
    """Weight of the suppression against a retain term of weight 1."""
    suppress_epochs: int = 5
    distil_epochs: int = 10
    suppress_lr: float = 2e-5
    distil_lr: float = 2e-5

    def trains(self, shape: Shape) -> Trains | None:
        """Change all weights."""
        return None

    def passes(self) -> Passes:
        """The epochs of both trainings."""
        return Passes(forget=self.suppress_epochs, retain=self.suppress_epochs + self.distil_epochs)

    def apply(self, bench: Bench) -> None:
        """Run the three stages."""
        suppress = MaxEnt(gamma=self.gamma, alpha=1.0, retain="kl").terms(bench.shape)
        turn = self.suppress_epochs / (self.suppress_epochs + self.distil_epochs)
        with bench.stage(0.0, turn):
            bench.train(suppress, name="suppress", epochs=self.suppress_epochs, lr=self.suppress_lr)
        generator = torch.Generator().manual_seed(bench.seed)

        def damage_all() -> None:
            for weight in bench.weights.values():
                weight.copy_(damage(weight, self.alpha, self.beta, generator))

        keep, epochs, lr = retain_terms("kl", 1.0), self.distil_epochs, self.distil_lr
        with bench.stage(turn, 1.0):
            bench.train(keep, name="distil", epochs=epochs, lr=lr, before=damage_all, watched=False)
