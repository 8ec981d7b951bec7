"""Random labels: fine-tune on noise in place of the answer (arXiv:2402.15159).

    L = gamma (1/N_f) sum_t -log p(n_t | x_f)  +  alpha L_retain

The noise n is uniform over tokens of text, as long as the answer that it replaces, and drawn anew
for each of several epochs. The model learns to answer gibberish; the true answer falls only as far
as gibberish takes its place.

Differs from published code: noise is drawn before training from the seed and the record's id, not
while batches are made, and special tokens are left out.
"""

from dataclasses import dataclass
from typing import ClassVar

from expunge.methods.base import Recipe, Shape, Stream, Term, Trains, forget_term
from expunge.methods.retain_losses import nll, retain_terms


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomLabel:
    """Relabelling with random tokens, with a retain term."""

    family: ClassVar[str] = "relabelling"
    advice: ClassVar[str] = "baseline; answers become gibberish, and stand out"
    recipe: ClassVar[Recipe] = Recipe(epochs=5, lr=1e-5, lr_lora=2e-4)

    gamma: float = 1.0
    alpha: float = 1.0
    retain: str = "nll"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the noise term and the retain term."""
        noise = forget_term(nll, self.gamma, per="token", streams=(Stream.NOISE,))
        return (noise, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None
