"""SatImp: ascent on tokens that are still known and were not trivial (arXiv:2505.11953).

    L = gamma (1/N_f) sum_t w_t log p_t  +  alpha L_retain,   w_t = p_t^beta1 (1 - p_t)^beta2

w_t is held constant. Saturation, p^beta1, leaves forgotten tokens alone; importance, (1 - p)^beta2,
leaves alone what is nearly certain, such as function words. The weight is a hump with its top at
p = beta1 / (beta1 + beta2). Both zero is plain ascent; beta2 = 0 has the gradient of WGA.

Because w_t is constant, the value is a weighted log-likelihood whose slope is not the gradient
that is descended: it says how much is left to do, not how far the loss fell.

Differs from published code: that has three contradicting pairs of coefficients (trap T10); the
paper's ratio forget to retain is 10 to 1, hence gamma = 1, alpha = 0.1. No reference model is kept
(trap T5).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.methods.base import Answers, Recipe, Shape, Term, Trains, forget_term
from expunge.methods.retain_losses import retain_terms


def satimp(logp: Tensor, beta1: float, beta2: float) -> Tensor:
    """Return w log p for each token, w without gradient; logp [N] nats -> [N].

    Example:
        >>> satimp(torch.tensor([0.5]).log(), beta1=1.0, beta2=1.0)
        tensor([-0.1733])
    """
    known = logp.detach()
    weight = torch.exp(beta1 * known) * (-torch.expm1(known)) ** beta2
    return weight * logp


@dataclass(frozen=True, kw_only=True, slots=True)
class SatImp:
    """Ascent weighted by saturation and importance, with a retain term."""

    family: ClassVar[str] = "ascent"
    advice: ClassVar[str] = "spares function words; slow on text known by heart"
    recipe: ClassVar[Recipe] = Recipe(epochs=5, lr=1e-5, lr_lora=2e-4)

    beta1: float = 5.0
    beta2: float = 1.0
    gamma: float = 1.0
    alpha: float = 0.1
    retain: str = "nll"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the weighted ascent term and the retain term."""
        forget = forget_term(self._forget, self.gamma, per="token")
        return (forget, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None

    def _forget(self, answers: Answers) -> Tensor:
        return satimp(answers.logp, self.beta1, self.beta2).sum()
