"""Level: bring each record to the likelihood of an unseen one, and hold it there.

    L = (gamma/B) sum_i (2 T_i / sharp) log cosh(sharp (mu_i - level_i) / 2)
      + teach (1/N_a) sum_t -log p(alternative_t)  +  alpha L_retain
    mu_i = (1/T_i) sum_t -log p(y_t), nats per token

level_i is `margin` plus the mean of mu, under the original, over unseen records with the same
question (holdout or control; over all of them where there is none). Gradient weight of each token:
tanh(sharp (level_i - mu_i) / 2), which is 1 far below the level, 0 at it, and -1 far above, so what
momentum has overdone comes back: a record less likely than unseen text is a scar.

NPO (arXiv:2404.05868) lets go of a record by how far it fell, whatever it is: a fact that can be
guessed is overdone, and one that cannot stays behind. Here each ends at its own level.

Differs from published code: none has this loss. SimNPO (arXiv:2410.07163) has one margin for all
records, divides by T_i, and never pulls back.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from expunge.methods.base import (
    Answers,
    Recipe,
    Shape,
    Term,
    Trains,
    forget_term,
)
from expunge.methods.retain_losses import lesson_terms, retain_terms


def apart(mean_nll: Tensor, level: Tensor, sharp: float) -> Tensor:
    """Return (2 / sharp) log cosh(sharp (mu - level) / 2), nats per token; [B], [B] -> [B]."""
    far = sharp * (mean_nll - level).abs()
    # log cosh x = |x| + log(1 + exp(-2 |x|)) - log 2, which does not overflow.
    return (far + 2 * functional.softplus(-far) - 2 * math.log(2)) / sharp


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """Each record to its own level of unseen text, alternatives, a retain term."""

    family: ClassVar[str] = "preference"
    advice: ClassVar[str] = "facts of unequal difficulty; ends at each one's own level"
    recipe: ClassVar[Recipe] = Recipe(epochs=10, lr=1e-5, lr_lora=5e-4)

    sharp: float = 1.0
    margin: float = 0.0
    gamma: float = 0.1
    teach: float = 0.0
    alpha: float = 1.0
    retain: str = "kl"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the distance to the level, the lesson where one is taught, and the retain term."""
        forget = forget_term(self._forget, self.gamma, per="sequence", needs_level=True)
        return (forget, *lesson_terms(self.teach), *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None

    def _forget(self, answers: Answers) -> Tensor:
        return (
            answers.lengths * apart(answers.mean_nll, answers.level + self.margin, self.sharp)
        ).sum()
