"""GradDiff: gradient ascent on the forget set, descent on the retain set (arXiv:2203.12817).

    L = -gamma (1/N_f) sum_t -log p(y_t)  +  alpha L_retain

Reduction: token mean over the optimiser step, so long answers weigh more. Unbounded below: the
forget term never stops pulling, and collapse is a matter of steps. Kept as the baseline it is.
With retain = "kl" this is GA+KL ("KL minimisation", arXiv:2401.06121).

Differs from published code: the mean is over the whole step, not over each micro-batch; GA+KL there
averages over prompt and padding too (trap T4) and runs the retain batch twice (trap T5).
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.methods.base import Answers, Recipe, Shape, Term, Trains, forget_term
from expunge.methods.retain_losses import retain_terms


def ascent(answers: Answers) -> Tensor:
    """Return the sum of log p over scored tokens, to be minimised; logp [N] nats -> scalar.

    Example:
        >>> import torch
        >>> one = torch.zeros(2, dtype=torch.long)
        >>> ascent(Answers(logp=torch.tensor([-1.0, -2.0]), reference=None, sequence=one, size=1))
        tensor(-3.)
    """
    return answers.logp.sum()


@dataclass(frozen=True, kw_only=True, slots=True)
class GradDiff:
    """Gradient difference."""

    family: ClassVar[str] = "ascent"
    advice: ClassVar[str] = "baseline; collapses when trained for long"
    recipe: ClassVar[Recipe] = Recipe(epochs=5, lr=1e-5, lr_lora=1e-4)

    gamma: float = 1.0
    alpha: float = 1.0
    retain: str = "nll"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the ascent term and the retain term."""
        forget = forget_term(ascent, self.gamma, per="token")
        return (forget, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None
