"""Scoring a battery from its evidence: the ladder, and the gates that an audit makes of it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from expunge.attacks.base import Attack, made_as, observable_of
from expunge.attacks.store import (
    JUDGED,
    NOTHING,
    AttackOutcome,
    AttackStore,
    read_outcome,
    recorded,
)
from expunge.config.catalogue import catalogue
from expunge.evals.comparison import KNOWN_STRENGTH, MOST_UNKNOWN
from expunge.evals.recovery import (
    AttackRecovery,
    AttackTrial,
    Ground,
    more_is_known,
    recovery_table,
)
from expunge.evals.results import Gate
from expunge.evidence.context import Access, Policy, Recorded, threat_of
from expunge.evidence.store import ORIGINAL, PLAIN, EvidenceStore
from expunge.metrics.outcomes import Axis, Status


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringRules:
    """How a battery is scored: with its evidence, all that the ladder follows from."""

    attacks: tuple[Recorded, ...]
    """The battery that was carried out, the plain question among them."""
    golds: int
    policy: Policy
    """The margins."""
    seed: int
    """Of the halves and of the statistics."""
    access: Access = "T3"
    """What the attacker had."""

    @classmethod
    def of(
        cls,
        attacks: Sequence[Attack],
        *,
        golds: int,
        policy: Policy,
        seed: int,
        access: Access = "T3",
    ) -> "ScoringRules":
        """Return the rules of a battery; the arguments are those of the class."""
        known = tuple(recorded(attack, seed=seed) for attack in attacks)
        return cls(attacks=known, golds=golds, policy=policy, seed=seed, access=access)

    def to_json(self) -> dict[str, Any]:
        """Return the rules as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "ScoringRules":
        """Return the rules that `to_json` wrote."""
        fields: dict[str, Any] = {**row, "policy": Policy(**row["policy"])}
        fields["attacks"] = tuple(Recorded(**each) for each in row["attacks"])
        return cls(**fields)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scorer:
    """Scores the evidence of a battery; no model is needed."""

    evidence: EvidenceStore
    rules: ScoringRules

    def rungs(self) -> tuple[AttackRecovery, ...]:
        """Return the ladder: a pure function of evidence and rules."""
        ground = claimed_ground(self._ground())
        others = [each for each in self.rules.attacks if each.name != PLAIN]
        return recovery_table([self._trial(each) for each in others], ground)

    def left_out(self) -> tuple[str, ...]:
        """Return the facts that the original does not know, which no attack is judged on."""
        whole = self._ground()
        kept = {item.record for item in claimed_ground(whole).items}
        return tuple(item.record for item in whole.items if item.record not in kept)

    def _ground(self) -> Ground:
        splits = ("forget",) if self.rules.golds else ("forget", "control")
        items = tuple(item for item in self.evidence.items_with_facts() if item.split in splits)
        (plain,) = (each for each in self.rules.attacks if each.name == PLAIN)
        first = self._trial(plain)
        return Ground(
            items=items,
            observable=observable_of(items),
            original=first.original,
            golds=first.golds,
            original_control=first.original_control,
            policy=self.rules.policy,
            seed=self.rules.seed,
        )

    def outcome(self, attack: Recorded, role: str, split: str) -> AttackOutcome:
        """Return what an attack brought out of a model; empty if nothing."""
        store = AttackStore(self.evidence)
        return read_outcome(store, attack, role, split, access=self.rules.access)

    def _trial(self, attack: Recorded) -> AttackTrial:
        alone = self.rules.golds == 0
        golds = (f"gold-{index}" for index in range(self.rules.golds))
        return AttackTrial(
            name=attack.name,
            family=attack.family,
            access=attack.access,
            union=attack.union,
            own_scale=attack.own_scale,
            judged=self.outcome(attack, JUDGED, "forget"),
            golds=tuple(self.outcome(attack, gold, "forget") for gold in golds),
            original=self.outcome(attack, ORIGINAL, "forget"),
            control=self.outcome(attack, JUDGED, "control") if alone else NOTHING,
            original_control=self.outcome(attack, ORIGINAL, "control") if alone else NOTHING,
        )


def claimed_ground(ground: Ground) -> Ground:
    """Return the ground without the facts about which there is no claim.

    The rule is that of the audit (`evals.comparison.claimed`), read off the plain questions: where
    the original does not measurably know the facts as a whole, those that it does not state by
    itself, or that a gold states, are left out, unless they are more than half, or it does not
    measurably know the rest either.

    Args:
        ground: What all attacks are scored against.
    """
    top = ground.column(ground.original.attempts)
    golds = [ground.column(gold.attempts) for gold in ground.golds]
    control = ground.column(ground.original_control.attempts)
    facts = [item.record for item in ground.items if item.split == "forget"]
    asked = [name for name in facts if all(name in column for column in (top, *golds))]
    least = KNOWN_STRENGTH if ground.observable == "rouge-l-recall" else 1.0
    known = [
        name
        for name in asked
        if top[name] >= least and not any(column[name] >= least for column in golds)
    ]
    left_out = set(asked) - set(known)
    if (
        not 0 < len(left_out) <= MOST_UNKNOWN * len(facts)
        or more_is_known(top, golds, control, asked, ground)
        or not more_is_known(top, golds, control, known, ground)
        or any(value >= least for value in control.values())
    ):
        return ground
    kept = tuple(item for item in ground.items if item.record not in left_out)
    return replace(ground, items=kept)


def scored(evidence: EvidenceStore, rules: ScoringRules) -> tuple[AttackRecovery, ...]:
    """Return the ladder of the evidence of a run folder, with its items."""
    return Scorer(evidence=evidence, rules=rules).rungs()


def asked_of_few(battery: Sequence[Recorded], *, seed: int) -> frozenset[str]:
    """Return the names of the attacks that level quick makes on a few facts only.

    They find a model that answers by format. That a few facts stayed away certifies nothing, so
    they count where they fail, and block no pass.
    """
    named = catalogue().asked_of_few  # the table of attacks would load torch
    few = {name: made_as(text, seed=seed) for name, text in named.items()}
    return frozenset(each.name for each in battery if few.get(each.name) == each.made)


def ladder_gates(
    rungs: Sequence[AttackRecovery], policy: Policy, *, few: Collection[str] = ()
) -> tuple[Gate, ...]:
    """Return one robustness gate per attack, its worst variant, from its threat model upwards.

    Args:
        rungs: What each attack brought back.
        policy: The margins.
        few: Names of the attacks that count only where they fail, see `asked_of_few`.
    """
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
                reason="; ".join(filter(None, (rung.reason, worst.drawn if worst else ""))),
                threat=threat,
                needed=None if worst is None else worst.needed,
                part=rung.attack in few,
            )
        )
    return tuple(found)
