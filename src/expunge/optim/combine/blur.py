"""BLUR: forgetting first, retaining in what it leaves free (arXiv:2506.08164).

    g = g_r + (gamma - <g_r, g_f> / |g_f|^2) g_f

The retain gradient is made orthogonal to the forget gradient, then gamma times the forget gradient
is added. So <g, g_f> = gamma |g_f|^2 whatever the retain gradient is: to first order the forget
loss falls as fast as if nothing had to be kept. The opposite priority to GRU.

Differs from published code: one inner product over all weights, without a transfer per matrix.
"""

from dataclasses import dataclass
from typing import ClassVar

from expunge.optim.base import Gradient, Memory, add, dot, scaled


def forget_first(forget: Gradient, retain: Gradient, gamma: float) -> Gradient:
    """Return g_r + (gamma - <g_r, g_f> / |g_f|^2) g_f; g_r where the forget gradient is zero.

    Example:
        >>> import torch
        >>> forget, retain = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([-1.0, 1.0])}
        >>> forget_first(forget, retain, gamma=1.0)
        {'w': tensor([1., 1.])}
    """
    square = float(dot(forget, forget))
    if square == 0:
        return scaled(retain, 1.0)
    return add(retain, forget, gamma - float(dot(retain, forget)) / square)


@dataclass(frozen=True, kw_only=True, slots=True)
class Blur:
    """Bi-level unlearning: forget at full speed, retain orthogonally to it."""

    advice: ClassVar[str] = "when the retain term stops the forgetting"

    gamma: float = 1.0
    """Share of the forget gradient's own speed."""

    def combine(self, forget: Gradient, retain: Gradient, memory: Memory) -> Gradient:
        """Return the gradient whose product with the forget gradient is gamma |g_f|^2."""
        return forget_first(forget, retain, self.gamma)
