"""RWHP: answer for the subject as the original does for counterfactual ones (arXiv:2407.16997).

    L = gamma (1/N_f) sum_t [y_t = y'_t] KL(p_ref(. | x', y'_{<t}) || p_t)  +  alpha L_retain

(x', y') is the forget record with the subject's name exchanged, token for token, for a name that no
model knows: y'_t = y_t except in names, which are not trained. Epochs take turns with five such
counterfactual subjects, so a fact that belongs to none of them remains. The target is per token
that of a model that never met the subject: a rare fact ends rarer than a guessable one, and the
loss is zero exactly there. The sentence around the fact is taught as it was.

Differs from published code: the subjects take turns instead of one average teacher; names are not
taught back, because their positions are left out; real questions with their answers, where the
authors rewrite Wikipedia; a retain term, which the authors do not have.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.methods.base import Distribution, Predictions, Recipe, Shape, Stream, Term, Trains
from expunge.methods.retain_losses import kl, retain_terms


@dataclass(frozen=True, kw_only=True, slots=True)
class RWHP:
    """Distillation from counterfactual subjects, with a retain term."""

    family: ClassVar[str] = "distillation"
    advice: ClassVar[str] = "for facts about named subjects; ends where a gold model would be"
    recipe: ClassVar[Recipe] = Recipe(epochs=10, lr=1e-5, lr_lora=1e-3)

    gamma: float = 1.0
    alpha: float = 1.0
    retain: str = "kl"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the distillation term and the retain term."""
        forget = Distribution(
            name="forget",
            streams=(Stream.FORGET,),
            coef=self.gamma,
            loss=self._forget,
            references=(Stream.STRANGER,),
        )
        return (forget, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None

    def _forget(self, seen: Predictions) -> Tensor:
        (other,) = seen.references
        return kl(seen.logits, other) * seen.alike
