"""Pre-registration: what will be tried and by which rules, fixed before the judged model is asked.

Attacks, seeds, margins and records are written down with the time; the digest of that stands in the
manifest. Who sees the answers first and chooses the rules after can make any model pass.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from expunge.errors import InputError
from expunge.evidence.context import AuditContext
from expunge.evidence.store import UNLEARNED, EvidenceStore
from expunge.utils.io import read_table, sha256_json, write_json

SCHEMA = "expunge.preregistration/1"

NAME = "preregistration.json"
"""File of the evidence folder; it holds no text of a record."""

_RULES = (
    "request",
    "goal",
    "response",
    "tier",
    "threat_model",
    "level",
    "golds",
    "seed",
    "policy",
    "battery",
    "precision",
)
"""Fields of the context that are rules; its others are what came about later."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preregistration:
    """What an audit has bound itself to."""

    rules: Mapping[str, Any]
    """Level, seed, margins, golds, and every attack with the digest of its budget."""
    records: Mapping[str, Mapping[str, Any]]
    """Set of records to their number and the keyed digest of their contents."""
    registered: str
    """When, ISO 8601 in UTC."""
    late: bool = False
    """Whether the judged model had been asked before."""

    @property
    def digest(self) -> str:
        """SHA-256 over everything: kept elsewhere, it proves that nothing was changed."""
        return sha256_json(asdict(self))


def preregister(store: EvidenceStore, context: AuditContext, *, key: bytes) -> Preregistration:
    """Write down what an audit binds itself to, or return what it wrote before.

    Call it once the records are in the store, and before the judged model is asked anything.

    Args:
        store: The evidence.
        context: Against what is audited, by which rules.
        key: The operator's key: a plain digest of a short record could be guessed.

    Raises:
        InputError: `registered-otherwise`: the judged model was asked under other rules.
    """
    now = Preregistration(
        rules=_rules(context),
        records=_records(store, key),
        registered=datetime.now(UTC).isoformat(timespec="seconds"),
        late=any(unit.role == UNLEARNED for unit in store.units()),
    )
    known = read_preregistration(store)
    if known is not None and (known.rules, known.records) == (now.rules, now.records):
        return known
    if known is not None and now.late:
        raise _otherwise(known, now)
    write_json(store.folder / NAME, {"schema": SCHEMA, **asdict(now)})
    return now


def read_preregistration(store: EvidenceStore) -> Preregistration | None:
    """Return what an evidence folder was bound to; None where nothing was written down."""
    path = store.folder / NAME
    if not path.is_file():
        return None
    row = read_table(path)
    row.pop("schema", None)
    try:
        return Preregistration(**row)
    except TypeError as error:
        raise InputError(
            "damaged-evidence",
            what=f"{path} is no preregistration",
            why="a field is missing, unknown or of another kind",
            fix="restore the folder from a copy, or run the audit again in another folder",
        ) from error


def departures(store: EvidenceStore, *, key: bytes | None) -> list[str]:
    """Say in what an evidence folder is not what was registered; empty when nothing was.

    Args:
        store: The evidence.
        key: The operator's key; None: the records cannot be compared.
    """
    known = read_preregistration(store)
    if known is None:
        return []
    found = [
        f"{name} is not what was registered"
        for name, value in _rules(store.context()).items()
        if known.rules.get(name) != value
    ]
    if key is not None and known.records != _records(store, key):
        found.append("the records are not those that were registered")
    return found


def _rules(context: AuditContext) -> dict[str, Any]:
    row = json.loads(json.dumps(asdict(context)))  # as it comes back from a file
    attacks = [{"name": each["name"], "made": each["made"]} for each in row["battery"]]
    return {**{name: row[name] for name in _RULES}, "battery": attacks}


def _records(store: EvidenceStore, key: bytes) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[str]] = {}
    for item in store.items():
        # Fields that are empty are left out, so that a later version may have more of them.
        row = {name: value for name, value in asdict(item).items() if value}
        text = json.dumps(row, ensure_ascii=False, sort_keys=True)
        groups.setdefault(item.split, []).append(text)
    return {
        split: {
            "count": len(rows),
            "hmac": hmac.new(key, "\n".join(rows).encode(), hashlib.sha256).hexdigest(),
        }
        for split, rows in sorted(groups.items())
    }


def _otherwise(known: Preregistration, now: Preregistration) -> InputError:
    names = [name for name, value in now.rules.items() if known.rules.get(name) != value]
    names += [] if known.records == now.records else ["records"]
    return InputError(
        "registered-otherwise",
        what=f"this audit was registered on {known.registered} with other {', '.join(names)}",
        why="the judged model has been asked since, and rules are fixed before it is",
        fix="name a new run folder with --out, or bring back the rules of before",
    )
