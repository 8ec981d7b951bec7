"""Unlikelihood: raise the probability that the token is another one (arXiv:1908.04319).

    L = gamma (1/N_f) sum_t -log(1 - p_t)  +  alpha L_retain

Gradient in the logits: p_y at y and -p_y p_j / (1 - p_y) elsewhere. It is at most one and falls
with p_y, so it ends by itself. CE-U (arXiv:2503.01224), cross-entropy to the model's own
distribution without y, has the same gradient: it is this with skip = 1 and retain = "none". So has
the term of TAR (arXiv:2408.00761) that drives harmful text away; it cuts tokens at log p < -15.

The log-odds of y are taken from the logits, where 1 - p loses every digit once p rounds to one:
text known by heart is where this loss starts.

Differs from published code: nothing is clipped; N_f counts all scored tokens, skipped and cut ones
too. One answer token is skipped in CE-U's code; by default none is, as short answers have no other.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, logsumexp
from torch.nn import functional

from expunge.methods.base import Distribution, Predictions, Recipe, Shape, Stream, Term, Trains
from expunge.methods.retain_losses import retain_terms


def log_odds(logits: Tensor, targets: Tensor) -> Tensor:
    """Return log p_y - log(1 - p_y) for each position; [n, V] and [n] -> [n] nats.

    Example:
        >>> from torch import tensor
        >>> log_odds(tensor([[0.0, 0.0]]), tensor([0]))
        tensor([0.])
    """
    index = targets.unsqueeze(-1)
    others = logits.scatter(-1, index, -math.inf)
    return logits.gather(-1, index).squeeze(-1) - logsumexp(others, dim=-1)


def unlikelihood(odds: Tensor) -> Tensor:
    """Return -log(1 - p), never negative, of log-odds; [n] nats -> [n] nats."""
    return functional.softplus(odds)


@dataclass(frozen=True, kw_only=True, slots=True)
class Unlikelihood:
    """Unlikelihood of the forget answers, with a retain term."""

    family: ClassVar[str] = "ascent"
    advice: ClassVar[str] = "bounded pull that ends by itself; simple and hard to break"
    recipe: ClassVar[Recipe] = Recipe(epochs=10, lr=1e-5, lr_lora=2e-4)

    cut: float = -15.0
    """Tokens whose log p is lower are done with, nats."""
    skip: int = 0
    """Tokens at the start of every answer that are left alone."""
    gamma: float = 1.0
    alpha: float = 1.0
    retain: str = "nll"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the unlikelihood term and the retain term."""
        forget = Distribution(
            name="forget", streams=(Stream.FORGET,), coef=self.gamma, loss=self._forget
        )
        return (forget, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None

    def _forget(self, seen: Predictions) -> Tensor:
        odds = log_odds(seen.logits, seen.targets)
        counts = (functional.logsigmoid(odds) >= self.cut) & (seen.places >= self.skip)
        return unlikelihood(odds) * counts
