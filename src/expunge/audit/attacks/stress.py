"""Stress: the battery on the models of one request, and the ladder from what it brought out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from expunge.audit.attacks.attempt import observable_of
from expunge.audit.attacks.battery import JUDGED, Battery
from expunge.audit.attacks.ladder import Ground, Rung, Trial, ladder, threat_of
from expunge.audit.attacks.plainly import Plainly
from expunge.audit.attacks.protocol import Access, Attack
from expunge.audit.attacks.store import NOTHING, AttackStore
from expunge.audit.attacks.target import Target
from expunge.audit.case import ORIGINAL
from expunge.audit.context import Policy
from expunge.audit.evidence import EvidenceStore, Item
from expunge.audit.results import Axis, Gate, Status
from expunge.console import Bar
from expunge.model.interpolate import changed
from expunge.model.load import Loaded
from expunge.prepare import Prepared


@dataclass(frozen=True, kw_only=True, slots=True)
class Stress:
    """The battery of one run folder while it is carried out."""

    prepared: Prepared
    battery: Battery
    scratch: Path

    @classmethod
    def open(
        cls,
        prepared: Prepared,
        evidence: EvidenceStore,
        attacks: Sequence[Attack],
        *,
        scratch: Path,
        access: Access = "T3",
    ) -> "Stress":
        """Start or go on with a battery.

        Args:
            prepared: The inputs of the run; without gold its control items are attacked as well.
            evidence: Where the evidence goes.
            attacks: The battery; the plain question is among them.
            scratch: Folder for files of activations.
            access: What the attacker has.
        """
        scope = prepared.scope
        records = {"forget": scope.forget}
        if not prepared.settings.request.gold and scope.control:
            records["control"] = scope.control
        battery = Battery(
            store=AttackStore(evidence),
            attacks=tuple(attacks),
            records=records,
            seed=prepared.settings.train.seed,
            access=access,
        )
        return cls(prepared=prepared, battery=battery, scratch=scratch)

    @property
    def total(self) -> int:
        """Units of progress: attacks times models."""
        golds = len(self.prepared.settings.request.gold)
        return (1 + golds) * len(self.battery.attacks) + len(self._scaled().attacks)

    def judged(self, loaded: Loaded, original: Mapping[str, Tensor], bar: Bar) -> None:
        """Attack the model under judgement with everything.

        Args:
            loaded: The model.
            original: All tensors of the original, or those that differ.
            bar: Advanced by one an attack.
        """
        self._attack(self.battery, loaded, original, JUDGED, bar)

    def gold(self, index: int, loaded: Loaded, original: Mapping[str, Tensor], bar: Bar) -> None:
        """Attack a gold in the same way."""
        self._attack(self.battery, loaded, original, f"gold-{index}", bar)

    def original(self, loaded: Loaded, bar: Bar) -> None:
        """Ask the original plainly, and under the attacks that have a scale of their own."""
        self._attack(self._scaled(), loaded, {}, ORIGINAL, bar)

    def _scaled(self) -> Battery:
        attacks = self.battery.attacks
        return replace(
            self.battery, attacks=tuple(a for a in attacks if a.own_scale or a == Plainly())
        )

    def _attack(
        self,
        battery: Battery,
        loaded: Loaded,
        original: Mapping[str, Tensor],
        role: str,
        bar: Bar,
    ) -> None:
        scope, settings = self.prepared.scope, self.prepared.settings
        target = Target(
            reference=loaded.name,
            judged=role == JUDGED,
            network=loaded.network,
            encoder=self.prepared.encoder,
            source=self.prepared.source,
            original=changed(loaded.network, original),
            retain=scope.retain,
            neighbours=scope.neighbours,
            strangers=(*scope.holdout, *scope.control),
            max_new_tokens=settings.audit.max_new_tokens,
            tokens_per_pass=settings.train.tokens_per_pass,
            seed=settings.train.seed,
            scratch=self.scratch,
        )
        battery.run(target, role, bar=bar)


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
