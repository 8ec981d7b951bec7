"""Fine-tuning: what `expunge train` does, the token mean of -log p over all records.

    L = (1/N) sum_t -log p(y_t)        N: scored tokens of the batch

The records are those of the forget stream: training has no other set. It is no unlearning method,
and so stands in no table of them.
"""

from dataclasses import dataclass
from typing import ClassVar

from expunge.methods.base import Likelihood, Recipe, Shape, Stream, Term, Trains
from expunge.methods.retain_losses import nll


@dataclass(frozen=True, kw_only=True, slots=True)
class Finetune:
    """Plain fine-tuning."""

    family: ClassVar[str] = "fine-tuning"
    advice: ClassVar[str] = "trains again without the forget set"
    recipe: ClassVar[Recipe] = Recipe(epochs=3, lr=2e-5, lr_lora=2e-4)

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the one term."""
        return (Likelihood(name="nll", streams=(Stream.FORGET,), coef=1.0, per="token", loss=nll),)

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None
