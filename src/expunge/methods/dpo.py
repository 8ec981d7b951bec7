"""DPO for unlearning: prefer the alternative answer to the one to forget (arXiv:2305.18290).

    L = -(2/beta) (1/B) sum_i log sigma(beta (Delta_i(alternative) - Delta_i(forget)))

With refusals as alternatives this is IdkDPO (arXiv:2404.05868, baseline); with plausible in-domain
answers it is AltPO (arXiv:2409.13474). At step 0 the value is (2/beta) log 2.

Differs from published code: the factor 2/beta follows NPO's authors, so that learning rates
transfer between the two; TOFU's branch lacks it and cannot run (trap T19).
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


def dpo(alternative: Tensor, forget: Tensor, beta: float) -> Tensor:
    """Return (2/beta) log(1 + exp(-beta (Delta_w - Delta_l))); both [B] nats -> [B].

    Example:
        >>> from torch import tensor
        >>> dpo(tensor([100.0]), tensor([0.0]), beta=0.1)
        tensor([0.0009])
    """
    return 2 / beta * functional.softplus(-beta * (alternative - forget))


@dataclass(frozen=True, kw_only=True, slots=True)
class DPO:
    """Preference of an alternative over the forgotten answer, with a retain term."""

    family: ClassVar[str] = "preference"
    advice: ClassVar[str] = "when the model should answer something else, or refuse"
    recipe: ClassVar[Recipe] = Recipe(epochs=10, lr=1e-5, lr_lora=5e-4)

    beta: float = 0.1
    gamma: float = 1.0
    alpha: float = 1.0
    retain: str = "nll"

    def __post_init__(self) -> None:
        require_positive("beta", self.beta, "method")

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the preference term and the retain term."""
        pair = forget_term(
            self._pair,
            self.gamma,
            per="sequence",
            streams=(Stream.ALTERNATIVE, Stream.FORGET),
            needs_reference=True,
        )
        return (pair, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None

    def _pair(self, alternative: Answers, forget: Answers) -> Tensor:
        return dpo(alternative.log_ratio, forget.log_ratio, self.beta).sum()
