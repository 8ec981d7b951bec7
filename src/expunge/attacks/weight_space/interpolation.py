"""Mixing: on the line between the original and the unlearned weights, and merging with a sibling.

    interpolation   theta(a) = (1 - a) original + a model,   a in {0.25, 0.5, 0.75, 1.25}
    merge           theta = (model + sibling) / 2

Protocol: plain questions, greedy, at every point. Budget: one answer a fact and point. How far a
model is from the original shows on this line. Gold is mixed with the original just the same, so
what the original brings by itself is no excess. The sibling is any model of the same shape that the
attacker has (`--sibling`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from expunge.attacks.base import Attempt, Unavailable, Unmet
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.evidence.context import AttackMeta
from expunge.models.interpolation import interpolated
from expunge.models.loading import load


@dataclass(frozen=True, kw_only=True, slots=True)
class Interpolation:
    """Points on the line through original and model."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="weights", access="T3", union=False, needs="weights that differ from the original's"
    )

    shares: tuple[float, ...] = (0.25, 0.5, 0.75, 1.25)

    @property
    def name(self) -> str:
        """Return `interpolation`."""
        return "interpolation"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Ask at every point."""
        if not target.original:
            raise Unmet("the original's weights are the model's own")
        found: list[Attempt] = []
        for share in self.shares:
            with interpolated(target.network, target.original, share):
                found += target.asks(tested, f"{share:g}")
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Merge:
    """The mean with another model."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="weights", access="T3", needs="`--sibling MODEL`"
    )

    sibling: str = ""
    """Reference of a model of the same shape."""

    @property
    def name(self) -> str:
        """Return `merge`."""
        return "merge"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Ask the merged model."""
        if not self.sibling:
            raise Unavailable(
                "no sibling to merge with was named (--sibling MODEL, or audit.sibling)"
            )
        other = load(self.sibling, target.source).network.model.state_dict()
        own = target.network.model.state_dict()
        if {k: v.shape for k, v in other.items()} != {k: v.shape for k, v in own.items()}:
            raise Unmet("the sibling's weights have other names or shapes")
        with interpolated(target.network, other, 0.5):
            return target.asks(tested)
