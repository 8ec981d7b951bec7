"""IDK + AP: refusals to forget questions, answers preserved on retain questions (arXiv:2410.08109).

    L = gamma (1/N_a) sum_t -log p(idk_t | x_f)  +  alpha L_AP
    L_AP = -(1/beta) (1/B) sum_i log sigma(beta (S_i(idk | x_r) - S_i(y_r | x_r)))
    S_i = sum_t -log p(y_t)

L_AP keeps the answer of a retain record more likely than a refusal to its question, so that
refusals do not spread. Gradient weight: (1/B) sigma(beta (S(y_r) - S(idk))) on the answer, the
negative of it on the refusal. No reference.

Differs from published code: no. Sums of different lengths are compared, as there (trap T25).
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from expunge.methods.base import (
    Answers,
    Likelihood,
    Recipe,
    Shape,
    Stream,
    Term,
    Trains,
    forget_term,
    require_positive,
)
from expunge.methods.retain_losses import nll


def preservation(refusal: Tensor, answer: Tensor, beta: float) -> Tensor:
    """Return (1/beta) log(1 + exp(beta (log p(idk) - log p(y)))); sums [B] nats -> [B].

    Example:
        >>> from torch import tensor
        >>> preservation(tensor([-9.0]), tensor([-9.0]), beta=1.0)
        tensor([0.6931])
    """
    return functional.softplus(beta * (refusal - answer)) / beta


@dataclass(frozen=True, kw_only=True, slots=True)
class IDKAP:
    """Relabelling with refusals, and preference of answers over refusals elsewhere."""

    family: ClassVar[str] = "relabelling"
    advice: ClassVar[str] = "as idk, where refusals must not spread to other questions"
    recipe: ClassVar[Recipe] = Recipe(epochs=5, lr=1e-5, lr_lora=2e-4)

    beta: float = 0.1
    gamma: float = 1.0
    alpha: float = 1.0

    def __post_init__(self) -> None:
        require_positive("beta", self.beta, "method")

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the refusal term and the preservation term."""
        refusal = forget_term(nll, self.gamma, per="token", streams=(Stream.ALTERNATIVE,))
        preserve = Likelihood(
            name="retain",
            streams=(Stream.REFUSED, Stream.RETAIN),
            coef=self.alpha,
            per="sequence",
            loss=self._preserve,
        )
        return (refusal, preserve)

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None

    def _preserve(self, refused: Answers, answered: Answers) -> Tensor:
        refusal, answer = (seen.per_sequence(seen.logp) for seen in (refused, answered))
        return preservation(refusal, answer, self.beta).sum()
