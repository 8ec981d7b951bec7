"""The battery: every attack on every model, one file at a time, so that it resumes where it was."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from expunge.audit.attacks.lending import Lending
from expunge.audit.attacks.protocol import Attack, Unmet
from expunge.audit.attacks.recorded import read_fold, read_outcome, recorded
from expunge.audit.attacks.split import Half, halves
from expunge.audit.attacks.store import AttackStore, AttackUnit, Cost, Outcome
from expunge.audit.attacks.target import Meter, Target
from expunge.audit.attacks.weights.unplug import Unplug
from expunge.audit.case import UNLEARNED
from expunge.audit.recorded import Access, Family, Recorded
from expunge.console import Bar
from expunge.data.record import Record
from expunge.errors import is_out_of_memory

JUDGED = UNLEARNED
"""The role of the model under attack, whatever was done to it."""

_FULL = (
    "memory ran out; the same command tries it again: with a smaller train.tokens_per_pass, in "
    "fewer bits (precision), or on a larger machine"
)
_THROUGH_A_GUARD: tuple[Family, ...] = ("asking", "sampling", "compression")
"""What meets a guard on its way; everything else reaches for the weights or states behind it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Battery:
    """A list of attacks, the facts, and where the evidence goes."""

    store: AttackStore
    attacks: tuple[Attack, ...]
    records: Mapping[str, Sequence[Record]]
    """`forget`, and `control` where control items stand for gold."""
    seed: int
    access: Access = "T3"
    """What the attacker has; attacks that take more are not made."""

    def run(self, target: Target, role: str, *, bar: Bar, lending: Lending | None = None) -> None:
        """Attack one model with everything that is not in the store yet.

        What could not be done to the judged model is not done to the others.

        Args:
            target: The model.
            role: `unlearned` first, then `original` and the golds.
            bar: Advanced by one an attack.
            lending: What other runs know of this model, where they share it.
        """
        for attack in self.attacks:
            allowed = attack.access <= self.access
            if allowed and (role == JUDGED or not self.outcome(attack, JUDGED, "forget").missing):
                for split, records in self.records.items():
                    self._split(attack, target, role, split, records, lending)
            bar.advance(1, detail=f"{role} {attack.name}")

    def outcome(self, attack: Attack, role: str, split: str) -> Outcome:
        """Return what an attack brought out of a model, both halves together; empty if nothing."""
        return read_outcome(self.store, self._known(attack), role, split, access=self.access)

    def _known(self, attack: Attack) -> Recorded:
        return recorded(attack, seed=self.seed)

    def _split(
        self,
        attack: Attack,
        target: Target,
        role: str,
        split: str,
        records: Sequence[Record],
        lending: Lending | None,
    ) -> None:
        for fold, half in enumerate(self._halves(attack, records)):
            known = read_fold(self.store, self._known(attack), role, split, fold)
            # What was missing may be there now, and a gold may have been trained anew.
            if known is not None and not known.missing and known.weights == target.digest:
                continue
            lent = None if lending is None else lending.find(attack, split, fold)
            outcome = self._attacked(attack, target, half) if lent is None else lent
            unit = AttackUnit(attack=attack.name, role=role, split=split, fold=fold)
            self.store.write(unit, outcome, self._known(attack).made)
            if lending is not None and lent is None:
                lending.keep(attack, split, fold, outcome)

    def _halves(self, attack: Attack, records: Sequence[Record]) -> tuple[Half, ...]:
        if attack.learns:
            return halves(records, seed=self.seed)
        return (Half((), tuple(records), ()),)

    def _attacked(self, attack: Attack, target: Target, half: Half) -> Outcome:
        started, worked = time.monotonic(), time.process_time()
        with TemporaryDirectory(dir=_there(target.scratch)) as scratch:
            metered = replace(target, meter=Meter(), scratch=Path(scratch))
            try:
                _refuse_past_a_guard(attack, target)
                attempts = tuple(attack.run(metered, half.used, half.tested))
            except Unmet as reason:
                return Outcome(missing=str(reason), injected=half.injected, weights=target.digest)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                return Outcome(missing=_FULL, injected=half.injected, weights=target.digest)
        return Outcome(
            weights=target.digest,
            attempts=attempts,
            injected=half.injected,
            cost=Cost(
                tokens=metered.meter.tokens,
                steps=metered.meter.steps,
                seconds=round(time.monotonic() - started, 2),
                cpu=round(time.process_time() - worked, 2),
            ),
        )


def _refuse_past_a_guard(attack: Attack, target: Target) -> None:
    """Refuse what would attack the unchanged weights and call it an attack on the guard."""
    if target.network.fence is None or attack.family in _THROUGH_A_GUARD:
        return
    if not isinstance(attack, Unplug):
        raise Unmet(
            "it takes the weights, and those behind this guard are the original's, unchanged; "
            "see what unplug brings out, or attack the model behind the guard by its own name"
        )


def _there(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
