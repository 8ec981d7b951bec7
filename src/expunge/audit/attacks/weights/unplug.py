"""Unplug: take the adapter off.

Protocol: a model that is named as an adapter over a base is loaded without the adapter; plain
questions, greedy. Budget: one answer a fact. Nothing but a file stands between such a model and
what it knew. Gold is unplugged in the same way where it is an adapter itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from expunge.audit.attacks.attempt import Attempt
from expunge.audit.attacks.protocol import Access, Family, Unmet
from expunge.audit.attacks.target import Target
from expunge.data.record import Record
from expunge.model.load import load, split_reference


@dataclass(frozen=True, kw_only=True, slots=True)
class Unplug:
    """The base beneath an adapter."""

    family: ClassVar[Family] = "weights"
    access: ClassVar[Access] = "T3"
    learns: ClassVar[bool] = False
    union: ClassVar[bool] = True
    own_scale: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Return `unplug`."""
        return "unplug"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Ask the base; gold without an adapter is asked as it is."""
        base, adapter = split_reference(target.reference)
        if adapter is None:
            if target.judged:
                raise Unmet("the model is not an unmerged adapter")
            return target.asks(tested)
        loaded = load(base, target.source)
        return replace(target, network=loaded.network, reference=base).asks(tested)
