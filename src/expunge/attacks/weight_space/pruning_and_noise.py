"""Perturbing: small weights set to zero, or noise added to all.

    prune    the smallest |w| of every linear layer become 0, by share 10, 30, 50 %
    noise    w + s r n,   r = root mean square of the layer, n standard normal, s in {0.02, 0.05}

Protocol: plain questions, greedy, at every strength. Budget: one answer a fact and strength. A fine
balance that hides knowledge breaks before the knowledge does (arXiv:2402.05162 prunes against
alignment in this way). One threshold a layer; a global one would empty whole layers of some models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from expunge.attacks.base import Attempt
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.evidence.context import AttackMeta
from expunge.models.number_formats import rewritten


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruning:
    """Small weights away."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="weights", access="T3", union=False, needs="questions"
    )

    shares: tuple[float, ...] = (0.1, 0.3, 0.5)

    @property
    def name(self) -> str:
        """Return `pruning`."""
        return "pruning"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Ask at every share."""
        found: list[Attempt] = []
        for share in self.shares:
            with rewritten(target.network, partial(pruned, share=share)):
                found += target.asks(tested, f"{share:.0%}")
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """Gaussian noise on every linear layer."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="weights", access="T3", union=False, needs="questions"
    )

    scales: tuple[float, ...] = (0.02, 0.05)

    @property
    def name(self) -> str:
        """Return `noise`."""
        return "noise"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Ask at every scale; every model gets the same noise."""
        found: list[Attempt] = []
        for scale in self.scales:
            generator = torch.Generator().manual_seed(target.seed)
            with rewritten(target.network, partial(noisy, scale=scale, generator=generator)):
                found += target.asks(tested, f"{scale:g}")
        return found


def pruned(weight: Tensor, *, share: float) -> Tensor:
    """Return the matrix with its smallest magnitudes, by share, set to zero."""
    count = int(share * weight.numel())
    if count == 0:
        return weight.clone()
    threshold = weight.abs().flatten().kthvalue(count).values
    return torch.where(weight.abs() <= threshold, 0.0, weight)


def noisy(weight: Tensor, *, scale: float, generator: torch.Generator) -> Tensor:
    """Return the matrix with noise of `scale` times its root mean square."""
    size = weight.float().square().mean().sqrt()
    drawn = torch.randn(weight.shape, generator=generator).to(weight.device)
    return (weight.float() + scale * size * drawn).to(weight.dtype)
