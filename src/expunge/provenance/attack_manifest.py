"""The manifest of a folder of `expunge attack`: rules, models and results.

It is apart from the manifest of a run because its rules load the attacks, and so torch.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.errors import InputError
from expunge.evals.attack_gates import Scorer, ScoringRules
from expunge.evidence.store import EvidenceStore, Item
from expunge.provenance.keys import item_fingerprints
from expunge.provenance.manifest import Retention, write_body
from expunge.provenance.signature import SigningKey
from expunge.reporting.recovery import ladder_json, summarise
from expunge.utils.file_names import ATTACK_TABLE, EVIDENCE
from expunge.utils.io import read_json, read_table, write_json

BATTERY = "battery.json"
"""File of a run folder that says how its ladder follows from its evidence."""

_SCHEMA = "expunge.battery/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Attacked:
    """What was attacked, and by which rules the evidence is scored."""

    rules: ScoringRules
    models: Mapping[str, str]
    """Role to the digest of its weights."""
    created: str
    """ISO 8601 with offset."""
    versions: Mapping[str, str]
    precision: str | None = None
    """Number format of the models, of which their digests are; None: the file does not say."""
    signer: str = ""
    """Fingerprint of the key that signs the manifest; empty: none does, or the file is older."""

    def write(self, run: Path) -> None:
        """Write `battery.json`."""
        row = {"models": dict(self.models), "created": self.created, "versions": self.versions}
        row |= {**self._precision(), "signer": self.signer}
        write_json(run / BATTERY, {"schema": _SCHEMA, **row, "rules": self.rules.to_json()})

    @classmethod
    def read(cls, run: Path) -> "Attacked":
        """Read `battery.json`.

        Raises:
            InputError: It has another layout than this version reads.
        """
        row = read_table(run / BATTERY)
        try:
            if row.pop("schema", None) != _SCHEMA:
                raise ValueError("another schema")
            fields: dict[str, Any] = {**row, "rules": ScoringRules.from_json(row["rules"])}
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                "battery-schema",
                what=f"{run / BATTERY} does not have schema {_SCHEMA!r}",
                why="rules of another layout could be taken for something else",
                fix="attack again with this version, or use the version that wrote it",
            ) from error

    def body(self, ladder: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the manifest says of a ladder: the numbers are in the files it covers."""
        attacks = [each.name for each in self.rules.attacks]
        return {
            "created": self.created,
            "attack": {
                "result": ladder["summary"]["result"],
                "access": self.rules.access,
                "attacks": attacks,
            },
            "models": dict(sorted(self.models.items())),
            **self._precision(),
            "versions": dict(sorted(self.versions.items())),
            "seeds": {"attack": self.rules.seed},
        }

    def _precision(self) -> dict[str, Any]:
        return {} if self.precision is None else {"precision": self.precision}


def write_attack_manifest(
    run: Path,
    attacked: Attacked,
    *,
    run_id: str,
    general: Iterable[Item],
    key: bytes,
    evidence: Retention,
    signing: SigningKey | None = None,
) -> None:
    """Write `battery.json` and `manifest.json` over a folder with its `attack.json`. Call it last.

    Args:
        run: The folder.
        attacked: What was attacked.
        run_id: Name of the run.
        general: The general questions of every audit. No attack asks them; their fingerprints tell
            with which key those of the others were made.
        key: The operator's key.
        evidence: How the evidence is kept.
        signing: As for `write_manifest`.
    """
    attacked.write(run)
    items = (*EvidenceStore(run / EVIDENCE, key=key).items(), *general)
    body = {"run": run_id, **attacked.body(read_json(run / ATTACK_TABLE))}
    prints = item_fingerprints(items, key)
    write_body(run, body, data_fingerprints=prints, evidence=evidence, signing=signing)


def ladder_of(run: Path, store: EvidenceStore) -> dict[str, Any]:
    """Return what `attack.json` must hold, computed from the evidence."""
    rules = Attacked.read(run).rules
    scorer = Scorer(evidence=store, rules=rules)
    rungs, left_out = scorer.rungs(), scorer.left_out()
    items = [item for item in store.items_with_facts() if item.record not in left_out]
    summary = summarise(rungs, items=items, access=rules.access, left_out=len(left_out))
    return ladder_json(rungs, summary)
