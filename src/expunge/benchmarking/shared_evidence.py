"""Lending: what original and golds say is the same for every run of a matrix, so it is asked once.

Evidence units are files that are whole or absent; those of original and golds are copied into each
new run, whose audit then finds them there. A model in bf16 is another one than in float32.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from expunge.config.settings import Settings
from expunge.evidence.store import UNLEARNED, Unit
from expunge.preparation.prepare import source_of
from expunge.utils.io import atomic, private

ORIGINAL = ("original",)
GOLDS = ("gold-",)
SHARED = (*ORIGINAL, *GOLDS)
"""How the names of roles begin that are the same for every run."""


def shared_folder(matrix: Path, settings: Settings) -> Path:
    """Return where runs of a matrix share what original and golds say, in one number format.

    What lies there is evidence, so the folder is made for its owner only.
    """
    return private(matrix / "shared") / source_of(settings).precision


def copy_evidence(
    shared: Path,
    evidence: Path,
    *,
    roles: Sequence[str] = SHARED,
    names: Mapping[str, str] | None = None,
) -> None:
    """Copy the units of original and golds into the evidence folder of a new run.

    Args:
        shared: Where they are.
        evidence: That of the run.
        roles: How the names of roles begin that are copied.
        names: What a role is called in the run, where not as it is.
    """
    _copy(shared, evidence, tuple(roles), names or {})


def store_evidence(evidence: Path, shared: Path, *, roles: Sequence[str] = SHARED) -> None:
    """Copy the units of original and golds from a run to where the next one finds them."""
    _copy(evidence, shared, tuple(roles), {})


def judged_gold(place: int, golds: int) -> dict[str, str]:
    """Return what the golds are called in the audit of one of them: the others are its golds."""
    others = [index for index in range(golds) if index != place]
    renamed = {f"gold-{index}": f"gold-{new}" for new, index in enumerate(others)}
    return {f"gold-{place}": UNLEARNED, **renamed}


def _copy(source: Path, target: Path, roles: tuple[str, ...], names: Mapping[str, str]) -> None:
    private(target)
    for path in sorted(source.glob("*.jsonl")):
        unit = Unit.parse(path.name)
        if unit is None or not unit.role.startswith(roles):
            continue
        place = target / replace(unit, role=names.get(unit.role, unit.role)).filename
        if not place.is_file():
            with path.open("rb") as read, atomic(place) as write:
                shutil.copyfileobj(read, write)
