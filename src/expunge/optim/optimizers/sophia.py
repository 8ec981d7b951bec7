"""Sophia-G: steps weighed by curvature (arXiv:2305.14342), for unlearning SOUL (arXiv:2404.18239).

    m <- b1 m + (1 - b1) g                                        every step
    h <- b2 h + (1 - b2) N g'^2                                   every `every` steps
    theta <- theta - lr decay theta - lr clip(m / max(rho h, 1e-12), -1, 1)

g' is the gradient of the mean NLL over the N scored tokens of the step, with tokens drawn from the
model's own distribution in place of the true ones; N g'^2 is an unbiased estimate of the diagonal
of the Gauss-Newton matrix (the Gauss-Newton-Bartlett estimator). Where curvature is small the step
is a signed step of size lr, so learning rates are those of Adam or somewhat smaller.

Differs from published code: SOUL's applies the average of m twice a step, refreshes h in every step
from the squared mixed gradient with true tokens, and fixes N at 5120 (trap T13). This is Sophia-G.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.methods.base import require_positive

_TINY = 1e-12


def clipped(momentum: Tensor, curvature: Tensor, rho: float) -> Tensor:
    """Return clip(m / max(rho h, 1e-12), -1, 1) for each weight.

    Example:
        >>> clipped(torch.tensor([9.0]), torch.tensor([1.0]), rho=1.0)
        tensor([1.])
    """
    return (momentum / (rho * curvature).clamp(min=_TINY)).clamp(-1, 1)


class SophiaG(torch.optim.Optimizer):
    """Keeps m, h and the number of steps of each weight; `refresh` before a step when `due`."""

    def __init__(
        self, weights: Mapping[str, Tensor], lr: float, weight_decay: float, settings: "Sophia"
    ) -> None:
        super().__init__(list(weights.values()), {"lr": lr, "weight_decay": weight_decay})
        self._weights = weights
        self._settings = settings

    @property
    def due(self) -> bool:
        """Whether the next step wants fresh curvature."""
        first = next(iter(self._weights.values()))
        return int(self._kept(first)["step"]) % self._settings.every == 0

    @torch.no_grad()
    def refresh(self, curvature: Mapping[str, Tensor]) -> None:
        """Take in an estimate of the diagonal of the Gauss-Newton matrix, by name."""
        for name, value in curvature.items():
            kept = self._kept(self._weights[name])["curvature"]
            kept.mul_(self._settings.beta2).add_(value, alpha=1 - self._settings.beta2)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step; weights without gradient stay."""
        group = self.param_groups[0]
        for weight in group["params"]:
            kept = self._kept(weight)
            kept["step"] += 1
            if weight.grad is None:
                continue
            kept["momentum"].lerp_(weight.grad, 1 - self._settings.beta1)
            move = clipped(kept["momentum"], kept["curvature"], self._settings.rho)
            weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(move, alpha=group["lr"])

    def _kept(self, weight: Tensor) -> dict[str, Tensor]:
        kept: dict[str, Tensor] = self.state[weight]
        if not kept:
            kept["step"] = torch.tensor(0.0)
            kept["momentum"] = torch.zeros_like(weight, requires_grad=False)
            kept["curvature"] = torch.zeros_like(weight, requires_grad=False)
        return kept


@dataclass(frozen=True, kw_only=True, slots=True)
class Sophia:
    """Second-order steps at the cost of Adam, plus one pass in ten steps."""

    advice: ClassVar[str] = "when Adam's steps are too even: flat directions move, steep ones less"
    curved: ClassVar[bool] = True

    beta1: float = 0.9
    beta2: float = 0.95
    rho: float = 0.04
    every: int = 10

    def __post_init__(self) -> None:
        require_positive("rho", self.rho, "optimiser")
        require_positive("every", self.every, "optimiser")

    def make(
        self, weights: Mapping[str, Tensor], lr: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        """Return the optimiser of these weights."""
        return SophiaG(weights, lr, weight_decay, self)
