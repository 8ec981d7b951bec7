"""NGDiff: normalised gradients of forgetting and retaining (arXiv:2410.22086).

    g = g_r / |g_r| + g_f / |g_f|

Here g_f is the gradient of a loss that is minimised; the paper writes a minus because its forget
loss is the likelihood's own. Neither side can drown the other, whatever their losses are worth, and
the coefficients gamma and alpha of a method have no effect.

Differs from the paper: its automatic learning rate, which needs two more passes, is left out; the
schedule of the run holds.
"""

from dataclasses import dataclass
from typing import ClassVar

from expunge.optim.base import Gradient, Memory, add, norm, scaled


def unit(gradient: Gradient) -> Gradient:
    """Return a gradient of length one; one of length zero stays zero.

    Example:
        >>> import torch
        >>> unit({"w": torch.tensor([3.0, 4.0])})
        {'w': tensor([0.6000, 0.8000])}
    """
    length = float(norm(gradient))
    return scaled(gradient, 1 / length if length else 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class NGDiff:
    """Equal weight for forgetting and retaining in every step."""

    advice: ClassVar[str] = "when the balance of forget and retain terms is hard to find"

    def combine(self, forget: Gradient, retain: Gradient, memory: Memory) -> Gradient:
        """Return the sum of both unit gradients."""
        return add(unit(forget), unit(retain))
