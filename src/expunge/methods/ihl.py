"""IHL: the inverted hinge, which trades places with the runner-up (arXiv:2408.06621, "LoKU").

    L = gamma (1/N_f) sum_t (1 + p_y - max_{v != y} p_v)  +  alpha L_retain

Gradient: p_y grad log p_y - p_v grad log p_v, with v the runner-up. Mass moves from the true token
to the next best one and not over the whole vocabulary, so answers stay fluent. Each token's value
lies in [0, 2]; it is a number, not nats.

Differs from published code: adapters start from zero unless the run asks for the paper's FILA
initialisation, which belongs to the training and not to the loss.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, softmax

from expunge.methods.base import Distribution, Predictions, Recipe, Shape, Stream, Term, Trains
from expunge.methods.retain_losses import retain_terms


def inverted_hinge(logits: Tensor, targets: Tensor) -> Tensor:
    """Return 1 + p_y - max of the other p for each position; [n, V] and [n] -> [n] in [0, 2].

    Example:
        >>> from torch import tensor
        >>> inverted_hinge(tensor([[0.0, 0.0]]), tensor([0]))
        tensor([1.])
    """
    index = targets.unsqueeze(-1)
    runner_up = logits.scatter(-1, index, -math.inf).argmax(dim=-1, keepdim=True)
    p = softmax(logits, dim=-1)
    return 1 + (p.gather(-1, index) - p.gather(-1, runner_up)).squeeze(-1)


def _forget(seen: Predictions) -> Tensor:
    return inverted_hinge(seen.logits, seen.targets)


@dataclass(frozen=True, kw_only=True, slots=True)
class IHL:
    """Inverted hinge loss with a retain term."""

    family: ClassVar[str] = "ascent"
    advice: ClassVar[str] = "keeps answers fluent; the next best answer takes over"
    recipe: ClassVar[Recipe] = Recipe(epochs=5, lr=1e-5, lr_lora=1e-4)

    gamma: float = 1.0
    alpha: float = 1.0
    retain: str = "nll"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the inverted hinge and the retain term."""
        forget = Distribution(
            name="forget", streams=(Stream.FORGET,), coef=self.gamma, loss=_forget
        )
        return (forget, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None
