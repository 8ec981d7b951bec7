"""ReLearn: overwrite by learning harmless answers, without any ascent (arXiv:2502.11190).

    L = gamma (1/N_a) sum_t -log p(a_t | x_f)  +  alpha (1/N_r) sum_t -log p(y_t)
      + divergence (1/N_r) sum_t KL(p_ref || p)

Everything is taught and nothing pushed away, so language stays fluent; the true answer only loses
to its competitors. What counts are many and varied alternatives.

Differs from published code: the alternatives are those of the records (training takes turns with
them), or refusals; the paper has another model write them and reword the questions, too.
"""

from dataclasses import dataclass
from typing import ClassVar

from expunge.methods.base import Recipe, Shape, Stream, Term, Trains, forget_term
from expunge.methods.retain_losses import nll, retain_terms


@dataclass(frozen=True, kw_only=True, slots=True)
class ReLearn:
    """Relabelling with given alternatives, and two retain terms."""

    family: ClassVar[str] = "relabelling"
    advice: ClassVar[str] = "for edits with several good alternatives a record; stays fluent"
    recipe: ClassVar[Recipe] = Recipe(epochs=4, lr=1e-5, lr_lora=1e-4)

    gamma: float = 1.0
    alpha: float = 1.0
    divergence: float = 1.0

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the term of alternatives and both retain terms."""
        taught = forget_term(nll, self.gamma, per="token", streams=(Stream.ALTERNATIVE,))
        return (
            taught,
            *retain_terms("nll", self.alpha),
            *retain_terms("kl", self.divergence, name="retain-kl"),
        )

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None
