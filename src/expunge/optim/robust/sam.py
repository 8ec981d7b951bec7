"""SAM: the forget gradient at the worst point nearby (arXiv:2502.05374, after arXiv:2010.01412).

    eps = rho g_f(theta) / |g_f(theta)|
    g   = g_f(theta + eps)

g_f is the gradient of the forget terms, |.| the Euclidean length over all trained weights. Walking
uphill by rho is the first-order worst case of undoing the step, so the minimum that is found is
flat: small changes of the weights, such as relearning, do not bring the answers back. Only the
forget terms are moved; the retain gradient stays at theta.

Differs from published code: one extra copy of the gradient instead of four of the weights, and the
weights come back bit for bit. In 16-bit formats rho spread over millions of weights rounds to
nothing, so float32 is required.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from expunge.methods.base import require_positive
from expunge.optim.base import Gradient, Memory, Pull, norm, scaled


def ascent(gradient: Gradient, rho: float) -> Gradient:
    """Return the offset of length rho along a gradient; zeros for a gradient of length zero.

    Example:
        >>> import torch
        >>> ascent({"w": torch.tensor([3.0, 4.0])}, rho=0.5)
        {'w': tensor([0.3000, 0.4000])}
    """
    length = float(norm(gradient))
    return scaled(gradient, rho / length if length else 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SAM:
    """Sharpness-aware forgetting."""

    advice: ClassVar[str] = "against relearning; doubles the cost of the forget terms"
    needs_retain: ClassVar[bool] = False
    needs_float32: ClassVar[bool] = True

    rho: float = 0.01
    """How far to look, Euclidean length over all trained weights."""

    def __post_init__(self) -> None:
        require_positive("rho", self.rho, "robust")

    @property
    def pulls(self) -> int:
        """Gradients of the forget records per step."""
        return 2

    def forget(
        self, pull: Pull, retain: Gradient, memory: Memory, generator: torch.Generator
    ) -> Gradient:
        """Return the forget gradient at theta + eps."""
        return pull("forget", at=ascent(pull("forget"), self.rho))
