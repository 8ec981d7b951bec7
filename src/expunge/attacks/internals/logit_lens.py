"""Logit lens and early exit: what the model would say if it ended earlier.

    lens         extraction strength of the true answer, read by final norm and head after a block
    early exit   greedy answers of the model that ends after that block

Protocol: the blocks above are skipped; plain questions. Budget: one pass, or one answer, a fact and
depth. Unlearning that acts in the last blocks leaves the answer readable below (arXiv:2409.18025
decodes every layer). The lens is compared with the original under the same lens. Without a lens of
its own (tuned lens), early layers of many models say nothing.

A model that ends early: the blocks above a layer pass on what they read.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.evidence.context import AttackMeta
from expunge.models.transformer import Network


@contextmanager
def cut_above(network: Network, layer: int) -> Generator[None]:
    """Read the answer from the states after block `layer`: final norm and head apply to them."""

    def pass_on(states: Tensor, *_inputs: object, **_options: object) -> Tensor | tuple[Tensor]:
        return (states,) if network.in_tuples else states

    skipped = list(network.layers)[layer + 1 :]
    try:
        for block in skipped:
            block.forward = pass_on
        yield
    finally:
        for block in skipped:
            del block.forward


def depths(network: Network, shares: tuple[float, ...]) -> list[int]:
    """Return the blocks that end at these shares of the depth, without the last block."""
    count = len(network.layers)
    chosen = {max(0, min(count - 2, round(share * count) - 1)) for share in shares}
    return sorted(chosen) if count > 1 else []


@dataclass(frozen=True, kw_only=True, slots=True)
class LogitLens:
    """Extraction strength by depth."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="inside", access="T3", union=False, own_scale=True, needs="two blocks"
    )

    shares: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
    """Of the depth."""

    @property
    def name(self) -> str:
        """Return `lens`."""
        return "lens"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Score at every depth."""
        found: list[Attempt] = []
        for layer in depths(target.network, self.shares):
            with cut_above(target.network, layer):
                found += target.strengths(tested, f"block {layer}")
        if not found:
            raise Unmet("the model has a single block")
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlyExit:
    """Answers by depth."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="inside", access="T3", union=False, needs="questions; two blocks"
    )

    shares: tuple[float, ...] = (0.75, 0.9)

    @property
    def name(self) -> str:
        """Return `early-exit`."""
        return "early-exit"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Ask at every depth."""
        found: list[Attempt] = []
        for layer in depths(target.network, self.shares):
            with cut_above(target.network, layer):
                found += target.asks(tested, f"block {layer}")
        if not found:
            raise Unmet("the model has a single block, or the facts have no question")
        return found
