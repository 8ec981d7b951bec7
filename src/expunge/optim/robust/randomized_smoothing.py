"""Randomised smoothing: the mean forget gradient around the weights (arXiv:2502.05374).

    g = (1/n) sum_i g_f(theta + delta_i),   delta_i ~ N(0, sigma^2 I)

An unbiased estimate of the gradient of E[L_f(theta + delta)], the forget loss blurred with a
Gaussian of width sigma in every weight.

Differs from published code: the noise is drawn from the step's own seed, so that a resumed run
draws the same; no copy of the weights is kept for it.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from expunge.methods.base import require_positive
from expunge.optim.base import Gradient, Memory, Pull, add, like


def smoothed(pull: Pull, *, draws: int, sigma: float, generator: torch.Generator) -> Gradient:
    """Return the mean forget gradient over Gaussian offsets of standard deviation sigma."""
    total: Gradient = {}
    for _ in range(draws):
        offset = {
            name: sigma * like(torch.randn(weight.shape, generator=generator), weight)
            for name, weight in pull.weights.items()
        }
        total = add(total, pull("forget", at=offset), 1 / draws)
    return total


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomizedSmoothing:
    """Forgetting that holds on average around the weights."""

    advice: ClassVar[str] = "against relearning and rounding; costs one pass per draw"
    needs_retain: ClassVar[bool] = False
    needs_float32: ClassVar[bool] = False

    draws: int = 3
    sigma: float = 1e-4
    """Standard deviation of the change of each weight."""

    def __post_init__(self) -> None:
        require_positive("draws", self.draws, "robust")
        require_positive("sigma", self.sigma, "robust")

    @property
    def pulls(self) -> int:
        """Gradients of the forget records per step."""
        return self.draws

    def forget(
        self, pull: Pull, retain: Gradient, memory: Memory, generator: torch.Generator
    ) -> Gradient:
        """Return the smoothed forget gradient."""
        return smoothed(pull, draws=self.draws, sigma=self.sigma, generator=generator)
