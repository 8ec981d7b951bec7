"""GA: gradient ascent on the forget set and nothing else (arXiv:2210.01504).

    L = (1/N) sum_t log p(y_t)

Reduction: token mean over the optimiser step. Unbounded below: the pull on a token is 1 - p, so it
grows as the token is forgotten and never stops. Nothing holds the rest of the model, which breaks
within tens of steps. GradDiff is this with a retain term.

Differs from published code: the mean is over the whole step, not over each micro-batch (trap T25);
the paper's stopping rule, that the text is extracted no better than unseen text, is the engine's
watchdog, which compares likelihoods instead.
"""

from dataclasses import dataclass
from typing import ClassVar

from expunge.methods.base import Recipe, Shape, Term, Trains, forget_term
from expunge.methods.graddiff import ascent


@dataclass(frozen=True, kw_only=True, slots=True)
class GA:
    """Gradient ascent without a retain term."""

    family: ClassVar[str] = "ascent"
    advice: ClassVar[str] = "lower bound of what a method must beat; destroys the model"
    recipe: ClassVar[Recipe] = Recipe(epochs=5, lr=1e-5, lr_lora=1e-4)

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the ascent term."""
        return (forget_term(ascent, 1.0, per="token"),)

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None
