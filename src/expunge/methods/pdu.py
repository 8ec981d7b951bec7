"""PDU: flatten the logits of forget answers while the retain loss keeps a limit (arXiv:2506.05314).

    L = gamma (1/N_f) sum_t (max_j z_j - mean_j z_j)^2  +  lambda ((1/N_r) sum_t -log p_t - epsilon)
    after each step, once the share `wait` of the run is over:
    lambda = max(0, lambda + eta ((1/N_r) sum_t -log p_t - epsilon))

The weight of the retain loss is a multiplier: it rises while the limit is broken and falls while
there is room. The forget term needs no softmax and its gradient, 2 (max - mean)(e_max - 1/V), is
zero for flat logits alone. Its value is in squares of logits, not nats; the limit is in nats.

epsilon has to be calibrated: a limit below what the model can reach winds lambda up without end.
With `slack` it is (1 + slack) times the retain loss of the first step, before any weight moves,
which is close to what the paper suggests.

Differs from published code: that masks logits with labels that are not shifted, so it leaves out
the first answer token and takes in one past the last (trap T7).
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.methods.base import (
    Distribution,
    Dual,
    Likelihood,
    Predictions,
    Recipe,
    Shape,
    Stream,
    Term,
    Trains,
)
from expunge.methods.retain_losses import nll


def margin(logits: Tensor) -> Tensor:
    """Return (max z - mean z)^2 for each position; logits [n, V] -> [n], squared logits."""
    return (logits.amax(dim=-1) - logits.mean(-1)).square()


def _forget(seen: Predictions) -> Tensor:
    return margin(seen.logits)


@dataclass(frozen=True, kw_only=True, slots=True)
class PDU:
    """Flat logits on the forget set, subject to a limit on the retain loss."""

    family: ClassVar[str] = "ascent"
    advice: ClassVar[str] = "when the price in retained answers is fixed beforehand"
    recipe: ClassVar[Recipe] = Recipe(epochs=10, lr=1e-5, lr_lora=2e-4)

    epsilon: float = 0.3
    slack: float = 0.0
    """If above zero, the limit follows from the original and epsilon is not used."""
    eta: float = 5.0
    start: float = 100.0
    """Lambda before the first step."""
    wait: float = 0.5
    gamma: float = 1.0

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the flattening term and the constraint."""
        own = self.slack > 0
        limit = 1 + self.slack if own else self.epsilon
        dual = Dual(limit=limit, rate=self.eta, start=self.start, wait=self.wait, relative=own)
        forget, retain = (Stream.FORGET,), (Stream.RETAIN,)
        return (
            Distribution(name="forget", streams=forget, coef=self.gamma, loss=_forget),
            Likelihood(
                name="retain", streams=retain, coef=self.start, per="token", loss=nll, dual=dual
            ),
        )

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None
