"""Lending: what original and golds say is the same for every run of a matrix, so it is asked once.

Evidence units are files that are whole or absent; those of original and golds are copied into each
new run, whose audit then finds them there.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from expunge.audit.evidence import Unit
from expunge.files import atomic

ORIGINAL = ("original",)
GOLDS = ("gold-",)
SHARED = (*ORIGINAL, *GOLDS)
"""How the names of roles begin that are the same for every run."""


def lend(shared: Path, evidence: Path, *, roles: Sequence[str] = SHARED) -> None:
    """Copy the units of original and golds into the evidence folder of a new run."""
    _copy(shared, evidence, tuple(roles))


def keep(evidence: Path, shared: Path, *, roles: Sequence[str] = SHARED) -> None:
    """Copy the units of original and golds from a run to where the next one finds them."""
    _copy(evidence, shared, tuple(roles))


def _copy(source: Path, target: Path, roles: tuple[str, ...]) -> None:
    for path in sorted(source.glob("*.jsonl")):
        unit = Unit.parse(path.name)
        shared = unit is not None and unit.role.startswith(roles)
        if shared and not (target / path.name).is_file():
            with path.open("rb") as read, atomic(target / path.name) as write:
                shutil.copyfileobj(read, write)
