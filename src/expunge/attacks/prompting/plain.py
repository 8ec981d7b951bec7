"""Not an attack: the question itself, which says what the model states without one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.evidence.collect import PlainForm
from expunge.evidence.context import AttackMeta


@dataclass(frozen=True, kw_only=True, slots=True)
class Plainly(PlainForm):
    """The plain question, greedy."""

    meta: ClassVar[AttackMeta] = AttackMeta(family="asking", access="T1", needs="questions")

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Ask plainly."""
        found = target.asks(tested)
        if not found:
            raise Unmet("the facts are passages without a question")
        return found
