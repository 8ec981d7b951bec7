"""GRU: gradient rectified unlearning (arXiv:2503.09117).

    m   <- fresh g_r + (1 - fresh) m
    g_f <- g_f - (<g_f, m> / |m|^2) m      where <g_f, m> < 0
    g    = g_f + g_r

The forget gradient loses its component that would raise the retain loss; one that does not conflict
is left as it is. With `floor` > -1 the cosine is cut there, so that a forget gradient nearly
opposite to m is not reduced to noise: g_f - max(cos, floor) (|g_f| / |m|) m.

Differs from published code: two inner products where the gradients lie, instead of flattened copies
of all of them on the CPU. The "0.8" of its moving average is the share of the new gradient, as
here.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from expunge.methods.base import require_share
from expunge.optim.base import Gradient, Memory, add, dot, norm

_RETAIN = "gru/retain/"


def rectified(forget: Gradient, guide: Gradient, floor: float = -1.0) -> Gradient:
    """Return the forget gradient without its component against `guide`.

    Example:
        >>> import torch
        >>> forget, guide = {"w": torch.tensor([1.0, -1.0])}, {"w": torch.tensor([0.0, 1.0])}
        >>> rectified(forget, guide)
        {'w': tensor([1., 0.])}
    """
    inner = float(dot(forget, guide))
    if not inner < 0:  # no conflict; also where a gradient is zero
        return forget
    forget_length, guide_length = float(norm(forget)), float(norm(guide))
    cosine = max(inner / (forget_length * guide_length), floor)
    return add(forget, guide, -cosine * forget_length / guide_length)


@dataclass(frozen=True, kw_only=True, slots=True)
class GRU:
    """Forget only along directions that do not raise the retain loss."""

    advice: ClassVar[str] = "when forgetting costs too much utility; one extra copy of the gradient"

    fresh: float = 0.8
    """Share of the new gradient in the moving average of retain gradients."""
    floor: float = -1.0
    """Smallest cosine that is corrected in full; the published clip is -0.5, -1 is none."""

    def __post_init__(self) -> None:
        require_share("fresh", self.fresh, "combine")

    def combine(self, forget: Gradient, retain: Gradient, memory: Memory) -> Gradient:
        """Return the rectified forget gradient plus the retain gradient."""
        guide: Gradient = {}
        for name, value in retain.items():
            mean = memory.setdefault(_RETAIN + name, torch.zeros_like(value))
            # In place: the average is kept in the memory that checkpoints save.
            guide[name] = mean.mul_(1 - self.fresh).add_(value, alpha=self.fresh)
        return add(rectified(forget, guide, self.floor), retain)
