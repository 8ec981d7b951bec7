"""IDK: fine-tune on refusals to the forget questions (arXiv:2401.06121, "IdkNLL").

    L = gamma (1/N_a) sum_t -log p(idk_t | x_f)  +  alpha L_retain

Nothing pushes the true answer down, so its probability hardly moves: the audit shows this as
shallow.

Differs from published code: no.
"""

from dataclasses import dataclass
from typing import ClassVar

from expunge.methods.base import Recipe, Shape, Stream, Term, Trains, forget_term
from expunge.methods.retain_losses import nll, retain_terms


@dataclass(frozen=True, kw_only=True, slots=True)
class IDK:
    """Relabelling with refusals, with a retain term."""

    family: ClassVar[str] = "relabelling"
    advice: ClassVar[str] = "suppression by refusal; shallow, the knowledge stays"
    recipe: ClassVar[Recipe] = Recipe(epochs=5, lr=2e-5, lr_lora=2e-4)

    gamma: float = 1.0
    alpha: float = 1.0
    retain: str = "nll"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the refusal term and the retain term."""
        refusal = forget_term(nll, self.gamma, per="token", streams=(Stream.ALTERNATIVE,))
        return (refusal, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None
