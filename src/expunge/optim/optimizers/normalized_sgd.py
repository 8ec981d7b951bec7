"""Gradient descent by steps of a fixed length, as in CIR and MUDMAN (arXiv:2509.11816).

    theta <- theta - lr decay theta - lr g / |g|

|.| is the Euclidean length over all trained weights, so lr is the length of the step: set
`train.lr` (0.3 in CIR's runs, 0.1 in MUDMAN's); the default rates of methods are for Adam.

Differs from published code: nothing known; no momentum.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.optim.base import norm


class NormalisedDescent(torch.optim.Optimizer):
    """Steps of length lr along the gradient; it keeps no state."""

    def __init__(self, weights: Mapping[str, Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(list(weights.values()), {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step; weights without gradient stay."""
        group = self.param_groups[0]
        gradients = {str(i): p.grad for i, p in enumerate(group["params"]) if p.grad is not None}
        length = float(norm(gradients))
        for weight in group["params"]:
            if weight.grad is not None:
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(weight.grad, alpha=group["lr"] / length if length else 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class NormalisedSGD:
    """Gradient descent with a fixed length of step."""

    advice: ClassVar[str] = "for few weights and large steps; set train.lr, the length of a step"
    curved: ClassVar[bool] = False

    def make(
        self, weights: Mapping[str, Tensor], lr: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        """Return the optimiser of these weights."""
        return NormalisedDescent(weights, lr, weight_decay)
