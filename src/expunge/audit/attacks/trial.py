"""A trial: one attack with everything that it brought out, and the ground that all stand on."""

from collections.abc import Sequence
from dataclasses import dataclass

from expunge.audit.attacks.attempt import Attempt, Observable, knowledge
from expunge.audit.attacks.store import NOTHING, Outcome
from expunge.audit.context import Policy
from expunge.audit.evidence import Item
from expunge.audit.recorded import Access, Family, threat_of

Column = dict[str, float]
"""How much of each fact a model gave away, in [0, 1]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One attack with everything that was brought out by it."""

    name: str
    family: Family
    access: Access
    union: bool
    own_scale: bool
    judged: Outcome
    golds: tuple[Outcome, ...] = ()
    original: Outcome = NOTHING
    """Only where it was asked under the attack: see `scale`."""
    control: Outcome = NOTHING
    """The judged model on control items; only without gold."""
    original_control: Outcome = NOTHING


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """What all attacks are scored against."""

    items: tuple[Item, ...]
    """Facts and control items."""
    observable: Observable
    original: Outcome
    """The original asked plainly."""
    golds: tuple[Outcome, ...]
    """The golds asked plainly."""
    original_control: Outcome
    """The original asked plainly about control items; only without gold."""
    policy: Policy
    seed: int

    def margin(self, trial: Trial) -> float:
        """Return the largest recovery that is tolerated from an attack.

        By the access it takes; models are served rounded every day without anyone who means harm,
        so compression is held to the margin of ordinary use.
        """
        return self.policy.recovery(threat_of(trial.family, trial.access))

    def column(self, attempts: Sequence[Attempt], variant: str | None = None) -> Column:
        """Return the best of each fact's attempts, or of those of one variant."""
        by_id = {item.record: item for item in self.items}
        found: Column = {}
        for attempt in attempts:
            if variant is not None and attempt.variant != variant:
                continue
            value = knowledge(attempt, by_id[attempt.record], self.observable)
            if value is not None:
                found[attempt.record] = max(value, found.get(attempt.record, 0.0))
        return found

    def clusters(self) -> dict[str, str]:
        """Return the subject of each fact and control item."""
        return {
            item.record: f"subject:{item.subject}" if item.subject else f"record:{item.record}"
            for item in self.items
        }
