"""Rounded weights: forgetting that holds when the model is stored in 4 bits (arXiv:2410.16454).

    g = g_f(Q4(W) + D) in a share of the steps,   g = g_f(W + D) in the others

W are the linear layers of the decoder, D what an adapter adds to them. Q4 rounds to 4 bits with one
scale per 128 inputs. Updates are small against a step of 4 bits, so rounding undoes a part of what
was learnt at W alone. Weights that are trained themselves are rounded as a whole, and the gradient
is taken as if they were not (straight through).

Differs from the paper, which trains with a large learning rate and a saliency mask instead.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from expunge.methods.base import require_share
from expunge.optim.base import Gradient, Memory, Pull


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundedWeights:
    """Forget gradients at weights of 4 bits, every other step in the mean."""

    advice: ClassVar[str] = "against rounding to 4 bits; no further pass; `auto` of counterfactual"
    needs_retain: ClassVar[bool] = False
    needs_float32: ClassVar[bool] = False

    share: float = 0.5
    """Probability that a step is taken at rounded weights."""

    def __post_init__(self) -> None:
        require_share("share", self.share, "robust")

    @property
    def pulls(self) -> int:
        """Gradients of the forget records per step."""
        return 1

    def forget(
        self, pull: Pull, retain: Gradient, memory: Memory, generator: torch.Generator
    ) -> Gradient:
        """Return the forget gradient at the weights, or at their rounding."""
        if float(torch.rand((), generator=generator)) < self.share:
            return pull.rounded()
        return pull("forget")
