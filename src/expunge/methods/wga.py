"""WGA: gradient ascent weighted by the confidence in each token (arXiv:2502.19301).

    L = gamma (1/N_f) sum_t (p_t^beta - 1) / beta  +  alpha L_retain

Gradient: gamma (1/N_f) sum_t p_t^beta grad log p_t, so tokens that are already forgotten drop out
and the ascent ends by itself. With beta = 1 the loss is the mean probability less one; beta = 0 is
plain ascent on log p. In nats at beta = 0, else a number between -1/beta and 0.

Differs from published code: that holds the weight constant and descends p^beta log p, whose value
is not what falls; this is the function with the same gradient. No reference model is kept, as none
is needed (trap T5).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.methods.base import Answers, Recipe, Shape, Term, Trains, forget_term
from expunge.methods.retain_losses import retain_terms


def wga(logp: Tensor, beta: float) -> Tensor:
    """Return (p^beta - 1) / beta, or log p at beta = 0, for each token; logp [N] nats -> [N].

    Example:
        >>> wga(torch.tensor([0.25]).log(), beta=0.5)
        tensor([-1.])
    """
    return torch.expm1(beta * logp) / beta if beta else logp


@dataclass(frozen=True, kw_only=True, slots=True)
class WGA:
    """Weighted gradient ascent with a retain term."""

    family: ClassVar[str] = "ascent"
    advice: ClassVar[str] = "ascent that ends by itself; needs retain data, no reference"
    recipe: ClassVar[Recipe] = Recipe(epochs=5, lr=1e-5, lr_lora=2e-4)

    beta: float = 1.0
    gamma: float = 1.0
    alpha: float = 1.0
    retain: str = "nll"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the weighted ascent term and the retain term."""
        forget = forget_term(self._forget, self.gamma, per="token")
        return (forget, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None

    def _forget(self, answers: Answers) -> Tensor:
        return wga(answers.logp, self.beta).sum()
