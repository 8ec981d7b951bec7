"""TNPO: negative preference optimisation token by token (arXiv:2502.19301).

    L = -(2/beta) (1/N_f) sum_t log sigma(-beta lr_t),   lr_t = log p(y_t) - log p_ref(y_t)

Gradient weight of each token: (2/N_f) sigma(beta lr_t). A token drops out once it alone is 1/beta
nats less likely than under the original, so a sequence is not let go because of one lost token.

beta is per token and not comparable with NPO's, where lr_t is summed first (traps T1 and T2): an
answer of T tokens needs about T times NPO's beta to be let go at the same distance.

Differs from published code: that minimises NLL with the weight detached and 1e-5 in its denominator
against division by zero; this is the loss whose gradient that is. The value of beta is not
published; 1 lets a token go after one nat.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.methods.base import Answers, Recipe, Shape, Term, Trains, forget_term, require_positive
from expunge.methods.npo import npo
from expunge.methods.retain_losses import retain_terms


@dataclass(frozen=True, kw_only=True, slots=True)
class TNPO:
    """Token-wise negative preference optimisation with a retain term."""

    family: ClassVar[str] = "preference"
    advice: ClassVar[str] = "for long answers of which only some words are secret"
    recipe: ClassVar[Recipe] = Recipe(epochs=5, lr=1e-5, lr_lora=5e-4)

    beta: float = 1.0
    gamma: float = 1.0
    alpha: float = 1.0
    retain: str = "nll"

    def __post_init__(self) -> None:
        require_positive("beta", self.beta, "method")

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the preference term and the retain term."""
        forget = forget_term(self._forget, self.gamma, per="token", needs_reference=True)
        return (forget, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None

    def _forget(self, answers: Answers) -> Tensor:
        return npo(answers.log_ratios, self.beta).sum()
