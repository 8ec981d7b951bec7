"""NPO: negative preference optimisation, the sequence-sum form (arXiv:2404.05868).

    L = -(2/beta) (1/B) sum_i log sigma(-beta Delta_i)
    Delta_i = sum_t log p(y_t) - log p_ref(y_t)

Gradient: (1/B) sum_i 2 sigma(beta Delta_i) grad Delta_i. It is gradient ascent whose weight per
sequence falls to zero once the sequence is 1/beta nats less likely than under the original.
At step 0: Delta = 0, weight 1, value (2/beta) log 2.

Four different things are called NPO in published code (trap T1). This is the paper's: sums inside
Delta, mean over sequences, factor 2/beta. Token-mean and raw-logit variants are not comparable in
beta.

Differs from published code: Delta is summed in float32; the reference is computed once, before step
0.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from expunge.methods.base import Answers, Recipe, Shape, Term, Trains, forget_term, require_positive
from expunge.methods.retain_losses import retain_terms


def npo(log_ratio: Tensor, beta: float) -> Tensor:
    """Return (2/beta) log(1 + exp(beta Delta)) for each sequence; Delta [B] nats -> [B].

    Example:
        >>> from torch import tensor
        >>> npo(tensor([0.0, -20.0]), beta=0.1)  # (2 / 0.1) log 2 before the first step
        tensor([13.8629,  2.5386])
    """
    return 2 / beta * functional.softplus(beta * log_ratio)


@dataclass(frozen=True, kw_only=True, slots=True)
class NPO:
    """Negative preference optimisation with a retain term."""

    family: ClassVar[str] = "preference"
    advice: ClassVar[str] = "records of people or facts; bounded, needs retain data"
    recipe: ClassVar[Recipe] = Recipe(epochs=10, lr=1e-5, lr_lora=5e-4)

    beta: float = 0.1
    gamma: float = 1.0
    alpha: float = 1.0
    retain: str = "nll"

    def __post_init__(self) -> None:
        require_positive("beta", self.beta, "method")

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the preference term and the retain term."""
        forget = forget_term(self._forget, self.gamma, per="sequence", needs_reference=True)
        return (forget, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None

    def _forget(self, answers: Answers) -> Tensor:
        return npo(answers.log_ratio, self.beta).sum()
