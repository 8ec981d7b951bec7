"""The manifest of a folder of `expunge attack`: by which rules, against which models, what came."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.audit.attacks.scoring import Rules, scored
from expunge.audit.evidence import EvidenceStore, Item
from expunge.errors import InputError
from expunge.files import read_json, write_json
from expunge.ledger.key import item_fingerprints
from expunge.ledger.manifest import Retention, write_body
from expunge.report.ladder import NAME as LADDER
from expunge.report.ladder import ladder_json, summarise

NAME = "battery.json"
"""File of a run folder that says how its ladder follows from its evidence."""

_SCHEMA = "expunge.battery/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Attacked:
    """What was attacked, and by which rules the evidence is scored."""

    rules: Rules
    models: Mapping[str, str]
    """Role to the digest of its weights."""
    created: str
    """ISO 8601 with offset."""
    versions: Mapping[str, str]
    precision: str | None = None
    """Number format of the models, of which their digests are; None: the file does not say."""

    def write(self, run: Path) -> None:
        """Write `battery.json`."""
        row = {"models": dict(self.models), "created": self.created, "versions": self.versions}
        row |= self._precision()
        write_json(run / NAME, {"schema": _SCHEMA, **row, "rules": self.rules.to_json()})

    @classmethod
    def read(cls, run: Path) -> "Attacked":
        """Read `battery.json`.

        Raises:
            InputError: It has another layout than this version reads.
        """
        row = read_json(run / NAME)
        if row.pop("schema", None) != _SCHEMA:
            raise InputError(
                "battery-schema",
                what=f"{run / NAME} does not have schema {_SCHEMA!r}",
                why="rules of another layout could be taken for something else",
                fix="attack again with this version, or use the version that wrote it",
            )
        fields: dict[str, Any] = {**row, "rules": Rules.from_json(row["rules"])}
        return cls(**fields)

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
    """
    attacked.write(run)
    items = (*EvidenceStore(run / "evidence", key=key).items(), *general)
    body = {"run": run_id, **attacked.body(read_json(run / LADDER))}
    write_body(run, body, data_fingerprints=item_fingerprints(items, key), evidence=evidence)


def ladder_of(run: Path, store: EvidenceStore) -> dict[str, Any]:
    """Return what `attack.json` must hold, computed from the evidence."""
    rules = Attacked.read(run).rules
    rungs = scored(store, rules)
    items = store.items()
    summary = summarise(rungs, items=items, access=rules.access)
    return ladder_json(rungs, summary)
