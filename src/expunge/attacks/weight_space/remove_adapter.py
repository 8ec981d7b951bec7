"""Unplug: take the adapter or the guard off.

Protocol: a model that is named as an adapter over a base, or as a guard around a model, is loaded
without it; plain questions, greedy. Budget: one answer a fact. Nothing but a file stands between
such a model and what it knew. Gold is unplugged in the same way where it is an adapter itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.evidence.context import AttackMeta
from expunge.models.loading import load
from expunge.models.reference import beneath


@dataclass(frozen=True, kw_only=True, slots=True)
class Unplug:
    """The base beneath an adapter, the model behind a guard."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="weights", access="T3", needs="an unmerged adapter, or a guard"
    )

    @property
    def name(self) -> str:
        """Return `unplug`."""
        return "unplug"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Ask the base; gold without an adapter is asked as it is."""
        base = beneath(target.reference)
        if base is None:
            if target.judged:
                raise Unmet("the model is neither an unmerged adapter nor guarded")
            return target.asks(tested)
        loaded = load(base, target.source)
        return replace(target, network=loaded.network, reference=base).asks(tested)
