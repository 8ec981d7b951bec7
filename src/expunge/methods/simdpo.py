"""SimDPO: DPO without a reference, normalised by length: SimPO for unlearning (arXiv:2405.14734).

    L = -(2/beta) (1/B) sum_i log sigma(beta (mu_i(forget) - mu_i(alternative) - delta))
    mu_i = (1/T_i) sum_t -log p(y_t)

The alternative shall be more likely than the forgotten answer by `delta` nats per token. Lengths do
not compete, as they do where a short refusal is held against a long answer by sums (trap T25).

Differs from published code: no code of an unlearning method of this name was found. The factor
2/beta follows NPO, and the margin lies inside beta, as in SimNPO (trap T9); SimPO writes
gamma = beta delta outside and has no factor.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from expunge.methods.base import (
    Answers,
    Recipe,
    Shape,
    Stream,
    Term,
    Trains,
    forget_term,
    require_positive,
)
from expunge.methods.retain_losses import retain_terms


def simdpo(alternative: Tensor, forget: Tensor, beta: float, delta: float) -> Tensor:
    """Return (2/beta) log(1 + exp(-beta (mu_l - mu_w - delta))); both [B] nats per token -> [B].

    Example:
        >>> from torch import tensor
        >>> simdpo(tensor([1.0]), tensor([101.0]), beta=0.1, delta=0.0)
        tensor([0.0009])
    """
    return 2 / beta * functional.softplus(-beta * (forget - alternative - delta))


@dataclass(frozen=True, kw_only=True, slots=True)
class SimDPO:
    """Reference-free, length-normalised preference of an alternative, with a retain term."""

    family: ClassVar[str] = "preference"
    advice: ClassVar[str] = "as dpo, where answers and alternatives differ in length"
    recipe: ClassVar[Recipe] = Recipe(epochs=10, lr=1e-5, lr_lora=5e-4)

    beta: float = 2.5
    delta: float = 0.0
    gamma: float = 1.0
    alpha: float = 1.0
    retain: str = "nll"

    def __post_init__(self) -> None:
        require_positive("beta", self.beta, "method")

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the preference term and the retain term."""
        pair = forget_term(
            self._pair, self.gamma, per="sequence", streams=(Stream.ALTERNATIVE, Stream.FORGET)
        )
        return (pair, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None

    def _pair(self, alternative: Answers, forget: Answers) -> Tensor:
        return simdpo(alternative.mean_nll, forget.mean_nll, self.beta, self.delta).sum()
