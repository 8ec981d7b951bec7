"""Saliency masks: SURE (arXiv:2410.16454) for neurons, SalUn (arXiv:2310.12508) for weights.

    neuron j:   s_j = |d_j L_f|        Euclidean length over the weights of neuron j
    weight i:   s_i = |d_i L_f|

L_f is the mean NLL per token of the forget set at the original. The `share` of all neurons (or
weights) with the largest s may move. Fewer weights with larger changes survive rounding to four
bits better than many small changes; that needs a larger learning rate than without the mask.

Differs from published code: the saliency has a backward pass of its own, whose gradients are taken
away before training, and the mask is applied in every step. In the released SURE code the saliency
gradient stays and is added to the training gradient (or cancels it), and the mask is never applied
(trap T28).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.methods.base import require_share, require_word
from expunge.optim.base import Gradient
from expunge.optim.masks.top_k import UNITS, filled, keep_largest, neurons, spread_out


@dataclass(frozen=True, kw_only=True, slots=True)
class Saliency:
    """Move only what the forget loss depends on most."""

    advice: ClassVar[str] = "with all weights trained and a large learning rate, against rounding"
    needs_retain: ClassVar[bool] = False
    low_rank: ClassVar[bool] = False

    share: float = 0.1
    """SURE keeps a tenth or a hundredth of the neurons, SalUn half of the weights."""
    unit: str = "neuron"

    def __post_init__(self) -> None:
        require_share("share", self.share, "mask")
        require_word("unit", self.unit, "mask", UNITS)

    def keep(
        self,
        weights: Mapping[str, Tensor],
        forget: Gradient,
        retain: Gradient,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Return True where a weight may move."""
        slopes = filled(forget, weights)
        if self.unit == "weight":
            return keep_largest({name: g.abs() for name, g in slopes.items()}, self.share)
        kept = keep_largest({name: neurons(g) for name, g in slopes.items()}, self.share)
        return spread_out(kept, weights)
