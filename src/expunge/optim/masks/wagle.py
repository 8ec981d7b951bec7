"""WAGLE: weights that matter for forgetting and not for retaining (arXiv:2410.17509).

    S_i = |(theta_i - (1/mu) d_i L_r) d_i L_f|

L_f and L_r are the mean NLL per token of the forget and the retain set at the original, d_i the
derivative by weight i. S_i is, to first order, how much the forget loss changes if weight i is set
to zero and the others move to what is best for the retain set; 1/mu stands for the inverse of
the retain loss's curvature. The `share` of all weights with the largest S may move.

Differs from published code: losses are means over at most 256 records of each set, not sums over
all batches, so that mu does not depend on how many there are; the count of kept weights is exact.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.methods.base import require_positive, require_share
from expunge.optim.base import Gradient
from expunge.optim.masks.top_k import filled, keep_largest


def attribution(weight: Tensor, forget: Tensor, retain: Tensor, mu: float) -> Tensor:
    """Return |(theta - g_r / mu) g_f| for each weight, in the weight's shape.

    Example:
        >>> import torch
        >>> attribution(torch.ones(1), torch.ones(1), torch.ones(1), mu=1.0)
        tensor([0.])
    """
    return ((weight - retain / mu) * forget).abs()


@dataclass(frozen=True, kw_only=True, slots=True)
class Wagle:
    """Weight attribution with the retain set accounted for."""

    advice: ClassVar[str] = "with all weights trained, to spare the retain set"
    needs_retain: ClassVar[bool] = True
    low_rank: ClassVar[bool] = False

    share: float = 0.95
    """Of all weights; published: 0.95 on facts, 0.8 with relabelling, 0.4 to 0.6 on domains."""
    mu: float = 1e-6
    """Curvature of the retain loss, the same for all weights."""

    def __post_init__(self) -> None:
        require_share("share", self.share, "mask")
        require_positive("mu", self.mu, "mask")

    def keep(
        self,
        weights: Mapping[str, Tensor],
        forget: Gradient,
        retain: Gradient,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Return True where a weight may move."""
        up, down = filled(forget, weights), filled(retain, weights)
        scores = {n: attribution(w, up[n], down[n], self.mu) for n, w in weights.items()}
        return keep_largest(scores, self.share)
