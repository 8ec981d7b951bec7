"""Replace: push the old answer down and teach others in its place, at the same time.

    L = -(2/beta) (gamma/B) sum_i log sigma(-beta Delta_i)
      + teach (1/N_a) sum_t -log p(alternative_t)  +  alpha L_retain

NPO (arXiv:2404.05868) and relabelling with several alternatives a record (arXiv:2502.11190) in one
loss. NPO alone leaves a hole where the answer was, and also pushes down the words around the fact
that every answer shares; the alternatives hold these up, so only the fact goes, and a model that
met several alternatives is as undecided as one that never knew. At step 0 the forget part is
(2/beta) log 2, as in NPO.

Differs from published code: none has this sum. On text known by heart `alpha` of 50 to 100 with a
KL retain term, high learning rates and LoRA in the MLPs of the lower half worked best.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.methods.base import (
    Answers,
    Recipe,
    Shape,
    Term,
    Trains,
    forget_term,
    require_positive,
)
from expunge.methods.npo import npo
from expunge.methods.retain_losses import lesson_terms, retain_terms


@dataclass(frozen=True, kw_only=True, slots=True)
class Replace:
    """Negative preference for the old answer, likelihood for alternatives, a retain term."""

    family: ClassVar[str] = "preference"
    advice: ClassVar[str] = "when something plausible should take the old answer's place"
    recipe: ClassVar[Recipe] = Recipe(epochs=10, lr=1e-5, lr_lora=1e-3)

    beta: float = 0.1
    gamma: float = 0.5
    teach: float = 2.0
    alpha: float = 50.0
    retain: str = "kl"

    def __post_init__(self) -> None:
        require_positive("beta", self.beta, "method")

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the negative preference, the lesson and the retain term."""
        forget = forget_term(self._forget, self.gamma, per="sequence", needs_reference=True)
        return (forget, *lesson_terms(self.teach), *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None

    def _forget(self, answers: Answers) -> Tensor:
        return npo(answers.log_ratio, self.beta).sum()
