"""AltPO: DPO against plausible answers that the model writes itself (arXiv:2409.13474).

    L = -(2/beta) (1/B) sum_i log sigma(beta (Delta_i(own answer) - Delta_i(forget)))

Before training, the original gets each question with its true answer and an instruction to write
another one. `samples` answers are drawn at `temperature`, those that repeat the truth are dropped,
and epochs take turns with the rest. Training is DPO in every term (`methods/dpo.py`).

Differs from published code: one instruction for all models instead of one per model family; five
answers are five epochs here and one there; repetitions of the truth are filtered.
"""

from dataclasses import dataclass
from typing import ClassVar

from expunge.errors import UsageError
from expunge.methods.base import Recipe, Shape, Term
from expunge.methods.dpo import DPO


@dataclass(frozen=True, kw_only=True, slots=True)
class AltPO(DPO):
    """Preference of the model's own inventions over the forgotten answer, with a retain term."""

    advice: ClassVar[str] = "when nothing should look forgotten; the model invents what it says"
    recipe: ClassVar[Recipe] = Recipe(epochs=10, lr=5e-5, lr_lora=5e-4)

    samples: int = 5
    """Answers drawn for each forget record."""
    temperature: float = 1.0
    """Divides the logits from which they are drawn."""

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the preference term and the retain term.

        Raises:
            UsageError: No answer would be drawn, or the temperature is not positive.
        """
        if self.samples < 1 or self.temperature <= 0:
            raise UsageError(
                "cannot-sample",
                what=f"{self.samples} answers cannot be drawn at temperature {self.temperature}",
                why="altpo teaches answers that the model draws before training",
                fix="set method.samples to 1 or more and method.temperature above 0",
            )
        return DPO.terms(self, shape)
