"""A random mask: the control of every other mask at the same share.

    P(weight i, or neuron j, may move) = share, exactly round(share * n) of all n

What a mask gains over this one is due to its choice; what both gain is due to moving less. Used as
the baseline in arXiv:2410.17509.

Differs from published code: seeded by the run, and exact in number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.methods.base import require_share, require_word
from expunge.optim.base import Gradient
from expunge.optim.masks.top_k import UNITS, keep_largest, spread_out


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomMask:
    """Weights or neurons drawn by lot."""

    advice: ClassVar[str] = "the control: shows what a mask's choice is worth"
    needs_retain: ClassVar[bool] = False
    low_rank: ClassVar[bool] = False

    share: float = 0.1
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
        whole = self.unit == "weight"
        scores = {
            name: torch.rand(w.shape if whole else w.shape[:1], generator=generator).to(w.device)
            for name, w in weights.items()
        }
        kept = keep_largest(scores, self.share)
        return kept if whole else spread_out(kept, weights)
