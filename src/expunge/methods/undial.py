"""UNDIAL: distil the original with the logit of the answer lowered (arXiv:2402.10052).

    L = gamma (1/N_f) sum_t KL(q_t || p_t)  +  alpha L_retain
    q_t = softmax(z_ref - beta e_y),  in closed form, with p_ref written p,
    q_j = p_j exp(-beta [j = y]) / (1 - p_y (1 - exp(-beta)))

The target is fixed before the first step and finite, so training cannot diverge and hardly depends
on the learning rate; where the original was nearly certain, beta must exceed its margin to take the
answer from the first place.

Differs from published code: only positions that predict scored tokens count, and y is never a
padding label; published code averages over prompt and padding and lowers logit V - 100 there (trap
T6). The target's entropy, a constant, is taken off its cross-entropy, so the value falls to zero.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.methods.base import Distribution, Predictions, Recipe, Shape, Stream, Term, Trains
from expunge.methods.retain_losses import kl, retain_terms


def lowered(logits: Tensor, targets: Tensor, beta: float) -> Tensor:
    """Return logits with beta taken off at the target token; [n, V] and [n] -> [n, V].

    Example:
        >>> from torch import tensor
        >>> lowered(tensor([[5.0, 1.0]]), tensor([0]), beta=3.0)
        tensor([[2., 1.]])
    """
    place = targets.unsqueeze(-1)
    return logits.scatter(-1, place, logits.gather(-1, place) - beta)


@dataclass(frozen=True, kw_only=True, slots=True)
class UNDIAL:
    """Self-distillation with lowered logits."""

    family: ClassVar[str] = "distillation"
    advice: ClassVar[str] = "stable and hard to overdo; no retain term by default"
    recipe: ClassVar[Recipe] = Recipe(epochs=10, lr=1e-5, lr_lora=1e-4)

    beta: float = 10.0
    gamma: float = 1.0
    alpha: float = 1.0
    retain: str = "none"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the distillation term and the retain term, if any."""
        forget = Distribution(
            name="forget",
            streams=(Stream.FORGET,),
            coef=self.gamma,
            loss=self._forget,
            references=(Stream.FORGET,),
        )
        return (forget, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None

    def _forget(self, seen: Predictions) -> Tensor:
        return kl(seen.logits, lowered(seen.references[0], seen.targets, self.beta))
