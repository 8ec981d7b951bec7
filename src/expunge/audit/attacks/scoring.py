"""Scoring a battery from its evidence: the ladder, and the gates that an audit makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from expunge.audit.attacks.attempt import observable_of
from expunge.audit.attacks.battery import JUDGED, Battery
from expunge.audit.attacks.ladder import Ground, Rung, Trial, ladder, threat_of
from expunge.audit.attacks.plainly import Plainly
from expunge.audit.attacks.protocol import Access, Attack
from expunge.audit.attacks.store import NOTHING, AttackStore
from expunge.audit.case import ORIGINAL
from expunge.audit.context import Policy
from expunge.audit.evidence import EvidenceStore, Item
from expunge.audit.results import Axis, Gate, Status


@dataclass(frozen=True, kw_only=True, slots=True)
class Scorer:
    """Scores the evidence of a battery; no model is needed."""

    battery: Battery
    """Its records are not looked at: the items of the evidence say what was asked."""
    items: tuple[Item, ...]
    """Facts, and control items where there is no gold."""
    golds: int
    policy: Policy

    def rungs(self) -> tuple[Rung, ...]:
        """Return the ladder."""
        tried = [attack for attack in self.battery.attacks if attack != Plainly()]
        plain = self._trial(Plainly())
        ground = Ground(
            items=self.items,
            observable=observable_of(list(self.items)),
            original=plain.original,
            golds=plain.golds,
            original_control=plain.original_control,
            policy=self.policy,
            seed=self.battery.seed,
        )
        return ladder([self._trial(attack) for attack in tried], ground)

    def _trial(self, attack: Attack) -> Trial:
        outcome = self.battery.outcome
        alone = self.golds == 0
        return Trial(
            name=attack.name,
            family=attack.family,
            access=attack.access,
            union=attack.union,
            own_scale=attack.own_scale,
            judged=outcome(attack, JUDGED, "forget"),
            golds=tuple(outcome(attack, f"gold-{i}", "forget") for i in range(self.golds)),
            original=outcome(attack, ORIGINAL, "forget"),
            control=outcome(attack, JUDGED, "control") if alone else NOTHING,
            original_control=outcome(attack, ORIGINAL, "control") if alone else NOTHING,
        )


def scored(
    evidence: EvidenceStore,
    attacks: Sequence[Attack],
    *,
    golds: int,
    policy: Policy,
    seed: int,
    access: Access = "T3",
) -> tuple[Rung, ...]:
    """Return the ladder of the evidence of a run folder: a pure function of it.

    Args:
        evidence: The evidence of the run, with its items.
        attacks: The battery that was carried out, with its budgets.
        golds: Number of golds.
        policy: The margins.
        seed: Of the halves and of the statistics.
        access: What the attacker had.
    """
    splits = ("forget",) if golds else ("forget", "control")
    items = tuple(item for item in evidence.items() if item.split in splits)
    battery = Battery(
        store=AttackStore(evidence), attacks=tuple(attacks), records={}, seed=seed, access=access
    )
    return Scorer(battery=battery, items=items, golds=golds, policy=policy).rungs()


def ladder_gates(rungs: Sequence[Rung], policy: Policy) -> tuple[Gate, ...]:
    """Return one robustness gate per attack, its worst variant, from its threat model upwards."""
    found: list[Gate] = []
    for rung in rungs:
        threat, worst = threat_of(rung.family, rung.access), rung.worst
        found.append(
            Gate(
                axis=Axis.ROBUSTNESS,
                name=f"recovery by {rung.attack}",
                value=None if worst is None else worst.rho,
                low=None if worst is None else worst.low,
                high=None if worst is None else worst.high,
                margin=policy.recovery(threat),
                n=0 if worst is None else worst.n,
                status=Status.NOT_COMPUTABLE if worst is None else rung.status,
                reason=rung.reason,
                threat=threat,
                needed=None if worst is None else worst.needed,
            )
        )
    return tuple(found)
