"""MaxEnt: drive the predictions of forget answers to uniform (arXiv:2410.08109, "ME").

    L = gamma (1/N_f) sum_t KL(U || p_t)  +  alpha L_retain
    KL(U || p) = log sum_j exp z_j - mean_j z_j - log V

Gradient in the logits: p - 1/V, so it ends at the uniform distribution, the minimum, where the
value is zero. No target of V entries is made. V counts the rows of the head, unused ones too. What
the model says instead of the answer is noise.

Differs from published code: no. The reverse, minus the entropy of p, is another loss with another
gradient, and is not this.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, logsumexp

from expunge.methods.base import Distribution, Predictions, Recipe, Shape, Stream, Term, Trains
from expunge.methods.retain_losses import retain_terms


def kl_from_uniform(logits: Tensor) -> Tensor:
    """Return KL(U || p) for each position in nats; logits [n, V] -> [n], never negative.

    Example:
        >>> from torch import zeros
        >>> kl_from_uniform(zeros(1, 5)).round(decimals=4)
        tensor([0.])
    """
    return logsumexp(logits, dim=-1) - logits.mean(-1) - math.log(logits.shape[-1])


def uniform(seen: Predictions) -> Tensor:
    """Return KL(U || p) for each of n predictions, [n] nats."""
    return kl_from_uniform(seen.logits)


@dataclass(frozen=True, kw_only=True, slots=True)
class MaxEnt:
    """Maximum entropy on the forget set, with a retain term."""

    family: ClassVar[str] = "ascent"
    advice: ClassVar[str] = "bounded; says noise instead of the answer"
    recipe: ClassVar[Recipe] = Recipe(epochs=5, lr=1e-5, lr_lora=2e-4)

    gamma: float = 0.1
    alpha: float = 1.0
    retain: str = "nll"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the entropy term and the retain term."""
        forget = Distribution(
            name="forget", streams=(Stream.FORGET,), coef=self.gamma, loss=uniform
        )
        return (forget, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None
