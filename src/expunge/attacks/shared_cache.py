"""Lending: attacks on the original and the golds are the same for every run that asks for them.

They are made once for each model, attack and budget, and kept in a folder that many runs share. The
name of a file holds a digest of everything that the outcome depends on, so another model, another
setting or another version finds nothing and makes its own.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from expunge.attacks.base import Attack, made_with
from expunge.attacks.store import AttackOutcome, AttackStore, AttackUnit
from expunge.attacks.weight_space.interpolation import Merge
from expunge.attacks.weight_space.remove_adapter import Unplug
from expunge.evidence.encryption import SHARED, locked
from expunge.evidence.store import EvidenceStore
from expunge.utils.io import private, read_json, sha256_json, write_json

_SCHEMA = "expunge.attack-store/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedAttackCache:
    """What is known from other runs about one model, and where this run leaves what it learns."""

    store: AttackStore
    """The shared folder. Personal data, as all evidence."""
    world: str
    """Digest of all that an outcome depends on beside attack and seed: the weights, the original,
    the records, the format of questions and numbers, the version."""
    seed: int
    keeps: bool = True
    """Whether what this run learns is left for others: not of a model that only this run has."""

    def find(self, attack: Attack, split: str, fold: int) -> AttackOutcome | None:
        """Return what another run brought out of this model by this attack."""
        if _loads_others(attack):
            return None
        return self.store.read(self._unit(attack, split, fold), self._made(attack))

    def keep(self, attack: Attack, split: str, fold: int, outcome: AttackOutcome) -> None:
        """Leave an outcome for other runs; what is missing now may be there then."""
        if self.keeps and not outcome.missing and not _loads_others(attack):
            self.store.write(self._unit(attack, split, fold), outcome, self._made(attack))

    def _made(self, attack: Attack) -> str:
        return made_with(attack, seed=self.seed)

    def _unit(self, attack: Attack, split: str, fold: int) -> AttackUnit:
        role = sha256_json([self.world, attack.name, self._made(attack)])[:16]
        return AttackUnit(attack=attack.name, role=role, split=split, fold=fold)


def _loads_others(attack: Attack) -> bool:
    """Tell whether an attack loads a model by its name, which no digest here stands for."""
    return isinstance(attack, Unplug | Merge)


def shared_store(folder: Path, evidence: EvidenceStore, *, expires: date) -> EvidenceStore:
    """Open the folder that runs share; what one run seals is sealed there, too, and lies apart.

    Args:
        folder: The folder.
        evidence: That of the run.
        expires: Until when the run keeps evidence; the folder is kept for the run that keeps it
            longest.

    Raises:
        InputError: The evidence is sealed, and the operator's key is not there.
    """
    if evidence.sealed and evidence.operator is None:
        raise locked(evidence.folder)
    known = read_json(folder / SHARED)["expires"] if (folder / SHARED).is_file() else ""
    write_json(private(folder) / SHARED, {"schema": _SCHEMA, "expires": max(known, str(expires))})
    if evidence.operator is None or not evidence.sealed:
        return EvidenceStore(folder / "open")
    store = EvidenceStore(folder / "sealed")
    store.seal(evidence.operator)
    return store
