"""Fine-tuning on records that have nothing to do with the facts.

Protocol: 10, then 100 retain records, every setting of the sweep; ask for all facts plainly.
Budget: steps x batch records a setting and number. Ten unrelated examples recover most of what RMU
hides (arXiv:2409.18025).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.finetuning.base import Sweep, tuned_attempts
from expunge.attacks.finetuning.related_text import without_facts
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.evidence.context import AttackMeta


@dataclass(frozen=True, kw_only=True, slots=True)
class RetainOnly:
    """Unrelated records."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="weights", access="T2", union=False, needs="retain records"
    )

    sweep: Sweep = field(default_factory=Sweep)
    counts: tuple[int, ...] = (10, 100)

    @property
    def name(self) -> str:
        """Return `retain-only`."""
        return "retain-only"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Fine-tune on each number of records, and ask."""
        pool = without_facts(target.retain, tested)
        if not pool:
            raise Unmet("there are no retain records")
        random.Random(f"{target.seed} retain-only").shuffle(pool)
        found: list[Attempt] = []
        known: dict[int, list[Attempt]] = {}
        # A count that the pool cannot reach keeps its name: all models are compared by it.
        for count in sorted(self.counts):
            used_up = min(count, len(pool))
            if used_up not in known:
                encoded = [target.encoder.encode(record) for record in pool[:used_up]]
                known[used_up] = tuned_attempts(target, encoded, tested, self.sweep)
            found += [
                replace(each, variant=f"up to {count} records, {each.variant}")
                for each in known[used_up]
                if each.variant != "untouched" or not found
            ]
        return found
