"""RR: representation rerouting, also called circuit breakers (arXiv:2406.04313).

    L = alpha (1 - s) (1/K) sum_l (1/N_f) sum_t max(0, cos(h_l(x_f)_t, h_l^ref(x_f)_t))
      + alpha s       (1/K) sum_l (1/N_r) sum_t |h_l(x_r)_t - h_l^ref(x_r)_t|

over K layers l. Forget states turn until they are orthogonal to what they were, wherever that
leads; retain states stay, in Euclidean distance, not squared. The schedule s rises linearly with
the run from 0 to `share`: first break, then repair. (Published code divides by twice its number of
steps, so s ends at a half.)

Differs from published code: only states that predict scored tokens count, not whole prompts;
retain states are pinned at the K layers that are broken, not at all layers below the highest, which
would need ten times the memory for references. The forward pass stops at the highest layer, as in
the authors' code, so blocks above it keep their weights.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from expunge.methods.base import Recipe, Shape, Stream, Term, Trains
from expunge.methods.hidden_states import blocks, held_against_original


def rerouted(hidden: Tensor, reference: Tensor) -> Tensor:
    """Return max(0, cosine) of each state with the original's; [n, d] twice -> [n], 0 to 1."""
    wide = torch.promote_types(hidden.dtype, torch.float32)
    return functional.cosine_similarity(hidden.to(wide), reference.to(wide), dim=-1).relu()


def distance(hidden: Tensor, reference: Tensor) -> Tensor:
    """Return the Euclidean distance of each state from the original's; [n, d] twice -> [n]."""
    wide = torch.promote_types(hidden.dtype, torch.float32)
    return (hidden.to(wide) - reference.to(wide)).norm(dim=-1)


@dataclass(frozen=True, kw_only=True, slots=True)
class RR:
    """Turn the states of forget text away from the original's, keep those of retain text."""

    family: ClassVar[str] = "representation"
    advice: ClassVar[str] = "for harmful domains under jailbreaks; breaks off instead of refusing"
    recipe: ClassVar[Recipe] = Recipe(epochs=10, lr=1e-5, lr_lora=1e-4)

    layers: str = ""
    """Blocks, separated by commas; empty: those at 10/32 and 20/32 of the way up."""
    alpha: float = 10.0
    """Scale of both."""
    share: float = 0.5

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return one rerouting and one retain term for each layer."""
        default = (shape.layers * 10 // 32, shape.layers * 20 // 32)
        layers = blocks(shape, self.layers, default)
        scale = self.alpha / len(layers)

        def breaking(progress: float) -> float:
            return scale * (1 - self.share * progress)

        def repairing(progress: float) -> float:
            return scale * self.share * progress

        terms = (
            ("forget", Stream.FORGET, breaking, rerouted),
            ("retain", Stream.RETAIN, repairing, distance),
        )
        return tuple(
            held_against_original(f"{name}-{layer}", stream, layer, coef, compare)
            for name, stream, coef, compare in terms
            for layer in layers
        )

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None
