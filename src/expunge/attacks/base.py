"""What an attack is: a frozen dataclass of its budget, with one function.

Attacks that ask one question a record are forms of the question (`evidence.question`) as well: the
audit asks in these itself, together with the plain questions.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from expunge.attacks.attempt import Attempt
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.evidence.attack_record import AttackMeta, Family
from expunge.utils.io import sha256_json

FAMILIES: Mapping[Family, str] = {
    "asking": "the question in other words, other roles, other languages, or begun for the model",
    "sampling": "many answers instead of one, and the probability of extraction",
    "prompts": "prompts found by gradients",
    "weights": "fine-tuning, mixing, pruning and changing the weights",
    "compression": "the weights held at fewer bits",
    "inside": "what the states between the layers still say",
}


class Attack(Protocol):
    """One attack with its budget. Implementations are frozen dataclasses."""

    meta: ClassVar[AttackMeta]
    """What it takes and how it is counted."""

    @property
    def name(self) -> str:
        """Name in the table, in evidence and on the ladder."""
        ...

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Attack the model and return what came out; the model is unchanged afterwards.

        Args:
            target: The model, and what the attacker has at hand.
            used: Facts that the attack may learn from; empty unless it `learns`.
            tested: Facts that it is after.

        Raises:
            Unmet: The attack cannot be made on this model or these facts.
        """
        ...


class Unmet(Exception):  # noqa: N818 - a missing need is an answer, not a failure
    """The model or the facts lack what the attack works on: it does not apply. The text says what
    is missing: `not computable: TEXT`."""


class Unavailable(Unmet):
    """A tool, a model or memory is not at hand: the attack applies, and was not run."""


def made_with(attack: Attack, *, seed: int) -> str:
    """Return the digest of an attack's budget and choices and the seed, as evidence is marked with.

    It is that of the attack's `repr`, so fields without one are not part of it.
    """
    return sha256_json({"attack": repr(attack), "seed": seed})[:16]
