"""SimNPO: NPO without a reference, normalised by length (arXiv:2410.07163).

    L = -(2/beta) (1/B) sum_i log sigma(beta (mu_i - delta)),   mu_i = (1/T_i) sum_t -log p(y_t)

Gradient weight of each token: (2/T_i) sigma(-beta (mu_i - delta)). The weight depends on the loss
per token alone, so easy sequences are not pushed more for being long.

Differs from published code: the margin `delta` is in nats per token and lies inside the factor
beta, as in the authors' code; the paper writes gamma = beta delta outside (trap T9). Same at the
default 0.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from expunge.methods.base import Answers, Recipe, Shape, Term, Trains, forget_term, require_positive
from expunge.methods.retain_losses import retain_terms


def simnpo(mean_nll: Tensor, beta: float, delta: float) -> Tensor:
    """Return (2/beta) log(1 + exp(-beta (mu - delta))); mu [B] nats per token -> [B].

    Example:
        >>> from torch import tensor
        >>> simnpo(tensor([0.0, 1.0]), beta=2.0, delta=0.0)
        tensor([0.6931, 0.1269])
    """
    return 2 / beta * functional.softplus(-beta * (mean_nll - delta))


@dataclass(frozen=True, kw_only=True, slots=True)
class SimNPO:
    """Reference-free, length-normalised negative preference optimisation."""

    family: ClassVar[str] = "preference"
    advice: ClassVar[str] = "needs no reference; sensitive to its forget coefficient"
    recipe: ClassVar[Recipe] = Recipe(epochs=10, lr=1e-5, lr_lora=5e-4)

    beta: float = 4.5
    delta: float = 0.0
    gamma: float = 0.125
    alpha: float = 1.0
    retain: str = "nll"

    def __post_init__(self) -> None:
        require_positive("beta", self.beta, "method")

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the preference term and the retain term."""
        forget = forget_term(self._forget, self.gamma, per="sequence")
        return (forget, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None

    def _forget(self, answers: Answers) -> Tensor:
        return simnpo(answers.mean_nll, self.beta, self.delta).sum()
