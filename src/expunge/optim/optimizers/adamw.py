"""AdamW, the default (arXiv:1711.05101).

    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2,   both corrected for their start at zero
    theta <- theta - lr decay theta - lr m / (sqrt(v) + 1e-8)

Differs from published code: nothing; this is PyTorch's, on float32 masters, in one kernel,
which takes a quarter of the time of separate operations on a processor.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class AdamW:
    """Adam with decoupled weight decay."""

    advice: ClassVar[str] = "the default"
    curved: ClassVar[bool] = False

    beta1: float = 0.9
    beta2: float = 0.999

    def make(
        self, weights: Mapping[str, Tensor], lr: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        """Return the optimiser of these weights."""
        betas = (self.beta1, self.beta2)
        return torch.optim.AdamW(
            list(weights.values()), lr=lr, betas=betas, weight_decay=weight_decay, fused=True
        )
