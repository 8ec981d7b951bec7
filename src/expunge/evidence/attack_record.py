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
class Recorded:
    """An attack as evidence knows it; see `attacks.protocol.Attack`."""

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
