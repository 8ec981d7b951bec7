"""KTO on undesirable answers alone (arXiv:2402.01306).

    L = (1/B) sum_i 1 - sigma(beta (z_i - Delta_i)),   z_i = max(0, Delta_i(mismatch))
    Delta_i = sum_t log p(y_t) - log p_ref(y_t)

z_i is how far the model has moved in general: Delta of the same prompt with the answer to another
question, without gradient. Gradient weight of a sequence: (beta/B) s (1 - s) with
s = sigma(beta (Delta_i - z_i)), beta/4 at step 0. Each loss lies between 0 and 1, value 1/2 at
step 0, and the weight falls on both sides: what is far gone, or was never known, is left alone.

Differs from published code: KTO takes the mean of Delta over the mismatched pairs of a batch before
it clamps; here each sequence has its own z, so that the loss does not depend on the rest of its
batch. NPO's authors have a variant with a clamp and a beta missing and refusals as mismatch (trap
T20); it is not this.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.methods.base import Answers, Recipe, Shape, Stream, Term, Trains, forget_term
from expunge.methods.retain_losses import retain_terms


def kto(mismatch: Tensor, forget: Tensor, beta: float) -> Tensor:
    """Return 1 - sigma(beta (max(0, Delta_m) - Delta_f)); both [B] nats -> [B] between 0 and 1.

    The mismatched answers get no gradient.

    Example:
        >>> kto(torch.tensor([-2.0]), torch.tensor([0.0]), beta=0.1)
        tensor([0.5000])
    """
    anchor = mismatch.detach().clamp(min=0)
    return torch.sigmoid(beta * (forget - anchor))


@dataclass(frozen=True, kw_only=True, slots=True)
class KTO:
    """Kahneman-Tversky optimisation of undesirable answers, with a retain term."""

    family: ClassVar[str] = "preference"
    advice: ClassVar[str] = "bounded on both sides; gentle, so give it steps or a higher gamma"
    recipe: ClassVar[Recipe] = Recipe(epochs=10, lr=1e-5, lr_lora=5e-4)

    beta: float = 0.1
    gamma: float = 1.0
    alpha: float = 1.0
    retain: str = "nll"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the preference term and the retain term."""
        pair = forget_term(
            self._pair,
            self.gamma,
            per="sequence",
            streams=(Stream.MISMATCH, Stream.FORGET),
            needs_reference=True,
        )
        return (pair, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None

    def _pair(self, mismatch: Answers, forget: Answers) -> Tensor:
        return kto(mismatch.log_ratio, forget.log_ratio, self.beta).sum()
