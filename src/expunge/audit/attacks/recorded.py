"""What is recorded of an attack, and how its evidence is read back."""

from collections.abc import Mapping

from expunge.audit.attacks.protocol import Attack, made_with
from expunge.audit.attacks.store import FREE, AttackStore, AttackUnit, Outcome
from expunge.audit.recorded import Access, Recorded

_HOLDS: Mapping[Access, str] = {
    "T1": "queries",
    "T2": "a fine-tuning service",
    "T3": "the weights",
}


def recorded(attack: Attack, *, seed: int) -> Recorded:
    """Return what is recorded of an attack with this seed."""
    return Recorded(
        name=attack.name,
        family=attack.family,
        access=attack.access,
        learns=attack.learns,
        union=attack.union,
        own_scale=attack.own_scale,
        made=made_with(attack, seed=seed),
    )


def read_fold(
    store: AttackStore, attack: Recorded, role: str, split: str, fold: int
) -> Outcome | None:
    """Return what an attack brought out on one half of the facts; None if it was not made."""
    unit = AttackUnit(attack=attack.name, role=role, split=split, fold=fold)
    return store.read(unit, attack.made)


def read_outcome(
    store: AttackStore, attack: Recorded, role: str, split: str, *, access: Access
) -> Outcome:
    """Return what an attack brought out of a model, both halves together; empty if nothing.

    Args:
        store: The evidence.
        attack: The attack.
        role: `unlearned`, `original`, `gold-0`, ...
        split: `forget` or `control`.
        access: What the attacker had; an attack that takes more was not made.
    """
    if attack.access > access:
        takes, has = _HOLDS[attack.access], _HOLDS[access]
        return Outcome(
            missing=f"it takes {takes} ({attack.access}), and the attacker has {has} "
            f"({access}); --access {attack.access} where more is at hand"
        )
    found = [
        outcome
        for fold in range(attack.folds)
        if (outcome := read_fold(store, attack, role, split, fold)) is not None
    ]
    reasons = [each.missing for each in found]
    return Outcome(
        attempts=tuple(attempt for each in found for attempt in each.attempts),
        # One half that could be attacked is an attack.
        missing=reasons[0] if reasons and all(reasons) else "",
        injected=tuple(name for each in found for name in each.injected),
        cost=sum((each.cost for each in found), FREE),
    )
