"""Recorded: what evidence knows of an attack; to score it again needs no model and no budget."""

from dataclasses import dataclass
from typing import Literal

Family = Literal["asking", "sampling", "prompts", "weights", "compression", "inside"]

Access = Literal["T1", "T2", "T3"]
"""The least access that an attack takes: queries, a fine-tuning service, the weights."""


def threat_of(family: Family, access: Access) -> str:
    """Return the threat model from which on an attack counts."""
    return "T0" if family == "compression" else access


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackMeta:
    """What an attack takes, and how what it brings out is counted; the same for every budget."""

    family: Family
    access: Access
    learns: bool = False
    """Whether it uses other facts of the set; then it is tested on the half that it did not use."""
    union: bool = True
    """True: a fact is out when any variant brings it out. False: each variant is a test of its own,
    and the worst one stands for the attack."""
    own_scale: bool = False
    """Whether what it measures is compared with the original under the same attack, because it is
    not the share of facts stated."""
    needs: str = ""
    """What must be there for it to be made, beside the model and the facts; in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """An attack as evidence knows it; see `attacks.base.Attack`."""

    name: str
    family: Family
    access: Access
    learns: bool
    union: bool
    own_scale: bool
    made: str
    """Digest of budget and seed: evidence of another budget is not this attack's."""

    @property
    def folds(self) -> int:
        """Number of files of each model and set of records: the halves of the facts, or one."""
        return 2 if self.learns else 1
