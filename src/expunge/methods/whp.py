"""WHP: distil what a model says that is not specific to the set (arXiv:2310.02238).

    v = v_ref - a ReLU(v_reinforced - v_ref)
    L = gamma (1/N_f) sum_t d(v_t, p_t)  +  alpha L_retain
    d: -log p(argmax v) for target = argmax,  KL(softmax(v) || p) for target = soft

v are logits. The reinforced original has memorised the forget set even better; whatever it raises
is specific to the set and is lowered by `a` times that (`strength`), so other tokens win. Where it
raises nothing the target is what the original says.

Differs from published code: there is no dictionary of anchored terms and their generic
translations, and the reinforced model is a throw-away adapter of ten large steps. The release that
is usually compared with (MUSE) mixes the two models while decoding; this trains.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from expunge.errors import UsageError
from expunge.methods.base import Distribution, Predictions, Recipe, Shape, Stream, Term, Trains
from expunge.methods.retain_losses import argmax_nll, kl, retain_terms

DISTANCES = {"argmax": argmax_nll, "soft": kl}


def generic(original: Tensor, reinforced: Tensor, strength: float) -> Tensor:
    """Return v_ref - a ReLU(v_reinforced - v_ref), logits; [n, V] -> [n, V]."""
    return original - strength * functional.relu(reinforced - original)


@dataclass(frozen=True, kw_only=True, slots=True)
class WHP:
    """Distillation of generic predictions."""

    family: ClassVar[str] = "relabelling"
    advice: ClassVar[str] = "for running text about one subject; no retain term by default"
    recipe: ClassVar[Recipe] = Recipe(epochs=5, lr=1e-5, lr_lora=2e-4)

    strength: float = 5.0
    target: str = "argmax"
    gamma: float = 1.0
    alpha: float = 1.0
    retain: str = "none"

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the distillation term and the retain term, if any.

        Raises:
            UsageError: No such target.
        """
        if self.target not in DISTANCES:
            raise UsageError(
                "unknown-target",
                what=f"there is no target {self.target}",
                why="whp distils the generic distribution or its most likely token",
                fix='set target to "soft" or "argmax" in [method]',
            )
        forget = Distribution(
            name="forget",
            streams=(Stream.FORGET,),
            coef=self.gamma,
            loss=self._forget,
            references=(Stream.FORGET,),
            reinforced=True,
        )
        return (forget, *retain_terms(self.retain, self.alpha))

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None

    def _forget(self, seen: Predictions) -> Tensor:
        original, reinforced = seen.references
        return DISTANCES[self.target](seen.logits, generic(original, reinforced, self.strength))
