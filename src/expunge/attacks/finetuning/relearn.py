"""Relearning on half of the facts, tested on the other half (RTT).

Protocol: fine-tune on one half with every setting of the sweep, ask for the other half plainly at
every look; then the halves change places. Best of the sweep, excess over gold under the same
sweep. Budget: steps x batch records a setting. 88 % of the accuracy before unlearning came back
this way (arXiv:2410.08827). AdamW instead of the paper's Lion.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.finetuning.base import Sweep, tuned_attempts
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.evidence.context import AttackMeta


@dataclass(frozen=True, kw_only=True, slots=True)
class Relearn:
    """The other half of the facts."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="weights", access="T2", learns=True, union=False, needs="two facts"
    )

    sweep: Sweep = field(default_factory=Sweep)

    @property
    def name(self) -> str:
        """Return `relearn`."""
        return "relearn"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Fine-tune and ask."""
        if not used or not tested:
            raise Unmet("too few facts to learn some and test others")
        return tuned_attempts(
            target, [target.encoder.encode(record) for record in used], tested, self.sweep
        )
