"""Set-difference pruning: silence the neurons that matter on the facts and not elsewhere.

    D = top p of neurons on the other half of the facts  \\  top q of neurons on retain records

Protocol: importance of MLP neurons by `neurons.importance`; D is silenced, facts of the tested half
are asked for plainly, for each (p, q). Budget: two calibration passes, one answer a fact and pair.
If unlearning was written into a few neurons of its own, the knowledge beneath comes back
(arXiv:2402.05162, used against unlearning in arXiv:2409.18025). Neurons rather than single weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.audit.attacks.attempt import Attempt
from expunge.audit.attacks.protocol import Unmet
from expunge.audit.attacks.target import Target
from expunge.audit.attacks.weights.neurons import dropped, importance
from expunge.audit.attacks.weights.related import without_facts
from expunge.audit.recorded import Access, Family
from expunge.data.record import Record


@dataclass(frozen=True, kw_only=True, slots=True)
class SetDifference:
    """Neurons of the facts only."""

    family: ClassVar[Family] = "weights"
    access: ClassVar[Access] = "T3"
    learns: ClassVar[bool] = True
    union: ClassVar[bool] = False
    own_scale: ClassVar[bool] = False
    needs: ClassVar[str] = "two facts; retain records; blocks with a plain MLP"

    pairs: tuple[tuple[float, float], ...] = ((0.02, 0.02), (0.05, 0.05))
    """(p, q): shares of the neurons of each block."""
    most: int = 64
    """Retain records that are looked at."""

    @property
    def name(self) -> str:
        """Return `set-difference`."""
        return "set-difference"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Silence and ask."""
        kept = without_facts(target.retain, (*used, *tested))[: self.most]
        if not kept or not used:
            raise Unmet("it takes retain records and facts to compare neurons on")
        on_facts, elsewhere = (_importance(target, records) for records in (used, kept))
        found: list[Attempt] = []
        for first, second in self.pairs:
            masks = {
                block: top(facts, first) & ~top(others, second)
                for block, (facts, others) in enumerate(zip(on_facts, elsewhere, strict=True))
            }
            with dropped(target.network, masks):
                found += target.asks(tested, f"{first:.0%} without {second:.0%}")
        return found


def top(values: Tensor, share: float) -> Tensor:
    """Return a mask of the largest values, by share, at least one."""
    count = max(1, round(share * len(values)))
    mask = torch.zeros(len(values), dtype=torch.bool, device=values.device)
    mask[values.topk(count).indices] = True
    return mask


def _importance(target: Target, records: Sequence[Record]) -> list[Tensor]:
    encoded = [target.encoder.encode(record) for record in records]
    target.meter.tokens += sum(len(record.ids) for record in encoded)
    return importance(
        target.network,
        encoded,
        pad_id=target.encoder.pad_id,
        tokens_per_pass=target.tokens_per_pass,
    )
