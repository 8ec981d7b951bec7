"""Lending: what original and golds say is the same for every run of a matrix, so it is asked once.

Evidence units are files that are whole or absent; those of original and golds are copied into each
new run, whose audit then finds them there.
"""

import shutil
from pathlib import Path

from expunge.audit.evidence import Unit
from expunge.files import atomic

_SHARED = ("original", "gold-")


def lend(shared: Path, evidence: Path) -> None:
    """Copy the units of original and golds into the evidence folder of a new run."""
    _copy(shared, evidence)


def keep(evidence: Path, shared: Path) -> None:
    """Copy the units of original and golds from a run to where the next one finds them."""
    _copy(evidence, shared)


def _copy(source: Path, target: Path) -> None:
    for path in sorted(source.glob("*.jsonl")):
        unit = Unit.parse(path.name)
        shared = unit is not None and unit.role.startswith(_SHARED)
        if shared and not (target / path.name).is_file():
            with path.open("rb") as read, atomic(target / path.name) as write:
                shutil.copyfileobj(read, write)
