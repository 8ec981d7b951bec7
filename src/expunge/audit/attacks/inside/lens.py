"""Logit lens and early exit: what the model would say if it ended earlier.

    lens         extraction strength of the true answer, read by final norm and head after a block
    early exit   greedy answers of the model that ends after that block

Protocol: the blocks above are skipped; plain questions. Budget: one pass, or one answer, a fact and
depth. Unlearning that acts in the last blocks leaves the answer readable below (arXiv:2409.18025
decodes every layer). The lens is compared with the original under the same lens. Without a lens of
its own (tuned lens), early layers of many models say nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from expunge.audit.attacks.attempt import Attempt
from expunge.audit.attacks.inside.layers import cut_above, depths
from expunge.audit.attacks.protocol import Unmet
from expunge.audit.attacks.target import Target
from expunge.audit.recorded import Access, Family
from expunge.data.record import Record


@dataclass(frozen=True, kw_only=True, slots=True)
class LogitLens:
    """Extraction strength by depth."""

    family: ClassVar[Family] = "inside"
    access: ClassVar[Access] = "T3"
    learns: ClassVar[bool] = False
    union: ClassVar[bool] = False
    own_scale: ClassVar[bool] = True
    needs: ClassVar[str] = "two blocks"

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

    family: ClassVar[Family] = "inside"
    access: ClassVar[Access] = "T3"
    learns: ClassVar[bool] = False
    union: ClassVar[bool] = False
    own_scale: ClassVar[bool] = False
    needs: ClassVar[str] = "questions; two blocks"

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
