"""Gradient-norm penalty: forget where the forget loss is flat (arXiv:2502.05374).

    L = L_f + weight |g_f|,   g_f = grad L_f
    grad L = g_f + weight H u,   u = g_f / |g_f|
    H u = (g_f(theta + h u) - g_f(theta - h u)) / 2h          central, error O(h^2)
        = (g_f(theta + h u) - g_f(theta)) / h                 forward, error O(h)

H is the Hessian of L_f, |.| the Euclidean length over all trained weights.

Differs from published code: there the norm is added up from plain numbers, so its gradient is zero
and nothing is penalised (trap T14). Here the gradient is real. A difference of gradients in a
16-bit format is rounding noise, so float32 is required.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from expunge.methods.base import require_positive
from expunge.optim.base import Gradient, Memory, Pull, add, norm, scaled


def penalised(pull: Pull, *, weight: float, step: float, central: bool) -> Gradient:
    """Return the gradient of L_f + weight |grad L_f|; a zero gradient stays as it is."""
    here = pull("forget")
    length = float(norm(here))
    if length == 0:
        return here
    along = scaled(here, step / length)  # h u: an offset of Euclidean length h
    ahead = pull("forget", at=along)
    if central:
        behind, width = pull("forget", at=scaled(along, -1.0)), 2 * step
    else:
        behind, width = here, step
    # g_f + weight H u, with H u from the difference of two gradients.
    return add(here, add(ahead, behind, -1.0), weight / width)


@dataclass(frozen=True, kw_only=True, slots=True)
class GradientNorm:
    """Forgetting with a penalty on the size of the forget gradient."""

    advice: ClassVar[str] = "against relearning, where SAM is too rough; two or three passes"
    needs_retain: ClassVar[bool] = False
    needs_float32: ClassVar[bool] = True

    weight: float = 0.01
    step: float = 0.01
    """h: length of the difference over all trained weights."""
    central: bool = True

    def __post_init__(self) -> None:
        require_positive("step", self.step, "robust")

    @property
    def pulls(self) -> int:
        """Gradients of the forget records per step."""
        return 3 if self.central else 2

    def forget(
        self, pull: Pull, retain: Gradient, memory: Memory, generator: torch.Generator
    ) -> Gradient:
        """Return the gradient of the penalised forget loss."""
        return penalised(pull, weight=self.weight, step=self.step, central=self.central)
