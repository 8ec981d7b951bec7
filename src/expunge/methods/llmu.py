"""LLMU: ascent, random answers and a KL term to the original (arXiv:2310.10683).

    L = gamma (1/B) sum_i -mu_i(forget)  +  mismatch (1/B) sum_i mu_i(another answer)
      + alpha (1/N_r) sum_t KL(p_ref || p)
    mu_i(y) = (1/T_i) sum_t -log p(y_t)

Answers to other questions teach the model to say something fluent but unrelated. In nats per token.
Unbounded below like every plain ascent; gamma is a half.

Differs from published code: that trains on the question before a random answer too, because it
takes the number of fields of the tokenizer's output for the question's length, and its rule to stop
never fires, because it compares a loss that is already negated (trap T26); here answers alone are
scored and the engine's watchdogs stop. Every epoch takes another one of the random answers of a
record, not the mean over five. KL counts scored positions of retain records (trap T4).
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.methods.base import (
    Answers,
    Likelihood,
    Recipe,
    Shape,
    Stream,
    Term,
    Trains,
    forget_term,
)
from expunge.methods.retain_losses import retain_terms


def _ascent(answers: Answers) -> Tensor:
    return -answers.mean_nll.sum()


def _descent(answers: Answers) -> Tensor:
    return answers.mean_nll.sum()


@dataclass(frozen=True, kw_only=True, slots=True)
class LLMU:
    """Ascent on the answer, descent on random answers, KL to the original elsewhere."""

    family: ClassVar[str] = "ascent"
    advice: ClassVar[str] = "for harmful text, where any unrelated answer is better"
    recipe: ClassVar[Recipe] = Recipe(epochs=10, lr=2e-6, lr_lora=1e-4)

    gamma: float = 0.5
    mismatch: float = 1.0
    alpha: float = 1.0
    retain: str = "kl"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the ascent term, the mismatch term and the retain term."""
        mismatch = Likelihood(
            name="mismatch",
            streams=(Stream.MISMATCH,),
            coef=self.mismatch,
            per="sequence",
            loss=_descent,
        )
        forget = forget_term(_ascent, self.gamma, per="sequence")
        return (forget, mismatch, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None
