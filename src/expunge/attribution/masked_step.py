"""The test of a mask: what forgetting costs when only some matrices may move.

    theta(eta) = theta + eta M g_f        g_f: gradient of the mean NLL of the forget records
    eta:       L_f(theta(eta)) - L_f(theta) = rise
    damage(M) = (L_r(theta(eta)) - L_r(theta)) / rise

M is 1 on the chosen matrices and 0 elsewhere; L are mean NLLs per scored token, nats. The step is
one, and as long as it takes: every mask forgets the same. Lower damage is better. A localisation
helps when its damage is below that of random blocks of the same size (arXiv:2505.16252 finds that
published ones mostly are not).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expunge.data.tokenization import Encoded
from expunge.models.scoring import score
from expunge.models.transformer import Network

RISE = 1.0
"""Nats per token that the forget loss rises."""
_CLOSE = 0.1
"""Share of the rise by which it may be missed; damage is per nat of the rise that was reached."""
_FIRST = 0.02
"""Length of the first step tried, as a share of the length of the weights."""
_TRIES = 16
_TOKENS = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class SetLosses:
    """Mean NLL per scored token, nats."""

    forget: float
    retain: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedStep:
    """Takes one step along the forget gradient in chosen matrices, measures, and takes it back."""

    network: Network
    forget: Sequence[Encoded]
    retain: Sequence[Encoded]
    pad_id: int

    @torch.no_grad()
    def damage(
        self, weights: Sequence[nn.Parameter], slopes: Sequence[Tensor], before: SetLosses
    ) -> float | None:
        """Return the damage; None where no step of this direction forgets that much.

        Args:
            weights: The matrices that may move.
            slopes: The forget gradient at each.
            before: What `losses` returned for the model as it is.
        """
        length = _length(slopes)
        if not length:
            return None
        kept = [weight.clone() for weight in weights]
        try:
            eta, tried = _FIRST * _length(weights) / length, list[tuple[float, float]]()
            for _ in range(_TRIES):
                for weight, old, slope in zip(weights, kept, slopes, strict=True):
                    torch.add(old, slope, alpha=eta, out=weight)
                rise = self.loss(self.forget) - before.forget
                if abs(rise - RISE) <= _CLOSE * RISE:
                    return (self.loss(self.retain) - before.retain) / rise
                tried.append((eta, rise))
                eta = _next(tried)
            return None
        finally:
            for weight, old in zip(weights, kept, strict=True):
                weight.copy_(old)

    def losses(self) -> SetLosses:
        """Return both losses of the model as it is."""
        return SetLosses(forget=self.loss(self.forget), retain=self.loss(self.retain))

    def loss(self, records: Sequence[Encoded]) -> float:
        """Return the mean NLL per scored token, nats."""
        found = score(
            self.network, records, pad_id=self.pad_id, tokens_per_pass=_TOKENS, with_z=False
        )
        return -float(torch.cat([each.logp for each in found]).double().mean())


def _length(tensors: Sequence[Tensor]) -> float:
    return sum(float(each.double().square().sum()) for each in tensors) ** 0.5


def _next(tried: Sequence[tuple[float, float]]) -> float:
    """Return the next step: inside the bracket by a power law through its ends, else outwards."""
    low = max((pair for pair in tried if pair[1] < RISE), default=None)
    high = min((pair for pair in tried if pair[1] > RISE), default=None)
    if high is None:
        eta, rise = tried[-1]
        return eta * (min(8.0, max(1.5, (RISE / rise) ** 0.5)) if rise > 0 else 8.0)
    if low is None or low[1] <= 0:
        return 0.3 * high[0] if low is None else (low[0] + high[0]) / 2
    share = math.log(RISE / low[1]) / math.log(high[1] / low[1])
    return low[0] * (high[0] / low[0]) ** min(0.9, max(0.1, share))
