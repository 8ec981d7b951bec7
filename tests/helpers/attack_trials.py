"""Trials by hand: forty facts, which of them a model states, and what the ladder is made from."""

from expunge.attacks.base import Attempt
from expunge.attacks.store import AttackOutcome
from expunge.evals.recovery import AttackTrial, Ground
from expunge.evidence.context import Policy
from expunge.evidence.store import Item

FACTS = 40


def item(index, split="forget", keys=True):
    return Item(
        record=f"{split}-{index}",
        split=split,
        question=f"Question {index}?",
        answer=f"It is key{index} indeed",
        key_answers=(f"key{index}",) if keys else (),
        subject=f"{split}-{index % 10}",
    )


ITEMS = [item(index) for index in range(FACTS)]
CONTROL = [item(index, "control") for index in range(FACTS)]


def said(known, items=ITEMS, variant=""):
    """Attempts that state the first facts, by number."""
    return tuple(
        Attempt(
            record=each.record,
            variant=variant,
            text=each.answer if index in known else "I do not know",
        )
        for index, each in enumerate(items)
    )


def outcome(known, items=ITEMS, variant="", **others):
    return AttackOutcome(attempts=said(set(known), items, variant), **others)


def made(known):
    """An outcome, given as one or as the facts that are stated."""
    return known if isinstance(known, AttackOutcome) else outcome(known)


def ground(*, top=range(FACTS), golds=((),), items=None, control=()):
    return Ground(
        items=tuple(items or (ITEMS if golds else [*ITEMS, *CONTROL])),
        observable="key-fact",
        original=made(top),
        golds=tuple(made(known) for known in golds),
        original_control=AttackOutcome() if golds else outcome(control, CONTROL),
        policy=Policy(),
        seed=0,
    )


def trial(name="ask", judged=(), golds=((),), **others):
    return AttackTrial(
        name=name,
        access="T1",
        judged=made(judged),
        golds=tuple(made(known) for known in golds),
        **{"family": "asking", "union": True, "own_scale": False, **others},
    )
