"""FLAT: an f-divergence between the alternative answer and the one to forget (arXiv:2410.11143).

    L = (1/B) sum_i f*(g(P_i(forget))) - g(P_i(alternative)) + alpha L_retain,  P = mean_t p(y_t)

f* is the conjugate of the divergence and g its best variational function:

    kl       g = v                         f*(g) = exp(v - 1)
    tv       g = tanh(v) / 2               f*(g) = g
    pearson  g = v                         f*(g) = v^2 / 4 + v
    js       g = log 2 - log(1 + exp(-v))  f*(g) = log(1 + exp v) - log 2

Gradient: p_t / T per token, up for the alternative and down for the answer, times 0.2 to 1.5
depending on the divergence. Bounded, without unit. Needs neither retain data nor the original.

Differs from published code: that divides by the padded length (trap T8), and applies g and f* to
the mean of P over a batch, so that a pair's gradient depends on its neighbours; here to each pair.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from expunge.errors import UsageError
from expunge.methods.base import Answers, Recipe, Shape, Stream, Term, Trains, forget_term
from expunge.methods.retain_losses import retain_terms

_Curve = Callable[[Tensor], Tensor]
DIVERGENCES: dict[str, tuple[_Curve, _Curve]] = {
    "kl": (lambda v: v, lambda v: torch.exp(v - 1)),
    "tv": (lambda v: torch.tanh(v) / 2, lambda v: torch.tanh(v) / 2),
    "pearson": (lambda v: v, lambda v: v.square() / 4 + v),
    "js": (lambda v: math.log(2) - softplus(-v), lambda v: softplus(v) - math.log(2)),
}
"""g, and f* after g."""


def probability(answers: Answers) -> Tensor:
    """Return the mean probability of the scored tokens of each sequence, [B]."""
    return answers.per_sequence(answers.logp.exp()) / answers.lengths


@dataclass(frozen=True, kw_only=True, slots=True)
class FLAT:
    """Divergence of two answers to the same question, from forget data alone."""

    family: ClassVar[str] = "ascent"
    advice: ClassVar[str] = "when there is no retain data at all"
    recipe: ClassVar[Recipe] = Recipe(epochs=5, lr=1e-5, lr_lora=2e-4)

    divergence: str = "tv"
    """kl, tv, pearson or js."""
    alpha: float = 1.0
    retain: str = "none"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the divergence term, and a retain term if one is wanted."""
        if self.divergence not in DIVERGENCES:
            raise UsageError(
                "unknown-divergence",
                what=f"there is no divergence {self.divergence}",
                why=f"flat knows {', '.join(DIVERGENCES)}",
                fix='set divergence = "tv" in [method]',
            )
        reward, penalty = DIVERGENCES[self.divergence]

        def apart(alternative: Answers, forget: Answers) -> Tensor:
            return (penalty(probability(forget)) - reward(probability(alternative))).sum()

        streams = (Stream.ALTERNATIVE, Stream.FORGET)
        forget = forget_term(apart, 1.0, per="sequence", streams=streams)
        return (forget, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None
