"""Unilogit: distil the model's own distribution with the answer at 1/V (arXiv:2505.06027).

    L = gamma (1/N_f) sum_t D_t  +  alpha L_retain
    D_t = KL(p_t || q_t) for direction = reverse,  KL(q_t || p_t) for direction = forward
    q_t = softmax(z*),  z*_y = lse_{j != y} z_j - log(V - 1),  z*_j = z_j elsewhere

q is made at every step from the current logits, without gradient, so p_y = 1/V in it exactly and
there is no strength to choose. p and q agree on every ratio of other tokens; so D is the divergence
of two coins, (p_y, 1 - p_y) and (1/V, 1 - 1/V), and letting the target move would change nothing.
Logit gradient: (p_y - 1/V) / (1 - p_y) (e_y - p) forward; reverse, p_y logit(p_y, 1/V) (e_y - p)
with the difference of the two log odds, which is slow while p_y is near one.

Differs from published code: none was found. The paper distils by reverse KL; forward KL is added.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.errors import UsageError
from expunge.methods.base import Distribution, Predictions, Recipe, Shape, Stream, Term, Trains
from expunge.methods.retain_losses import kl, retain_terms


def levelled(logits: Tensor, targets: Tensor) -> Tensor:
    """Return logits under which the target token has probability 1/V; [n, V], [n] -> [n, V].

    Example:
        >>> from torch import tensor
        >>> levelled(tensor([[9.0, 0.0, 0.0]]), tensor([0])).softmax(-1)
        tensor([[0.3333, 0.3333, 0.3333]])
    """
    place = targets.unsqueeze(-1)
    others = logits.scatter(-1, place, -math.inf).logsumexp(-1, keepdim=True)
    return logits.scatter(-1, place, others - math.log(logits.shape[-1] - 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class Unilogit:
    """Self-distillation towards a uniform probability of the answer."""

    family: ClassVar[str] = "distillation"
    advice: ClassVar[str] = "no strength to tune; stops by itself when the answer is a mere guess"
    recipe: ClassVar[Recipe] = Recipe(epochs=10, lr=1e-5, lr_lora=1e-4)

    direction: str = "reverse"
    gamma: float = 1.0
    alpha: float = 1.0
    retain: str = "nll"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the distillation term and the retain term.

        Raises:
            UsageError: No such direction.
        """
        if self.direction not in ("reverse", "forward"):
            raise UsageError(
                "unknown-direction",
                what=f"there is no direction {self.direction}",
                why="a KL divergence is taken from the model to its target, or the other way",
                fix='set direction to "reverse" or "forward" in [method]',
            )
        forget = Distribution(
            name="forget", streams=(Stream.FORGET,), coef=self.gamma, loss=self._forget
        )
        return (forget, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None

    def _forget(self, seen: Predictions) -> Tensor:
        target = levelled(seen.logits.detach(), seen.targets)
        return kl(seen.logits, target) if self.direction == "forward" else kl(target, seen.logits)
