"""What runs stored of their models' answers: read when a page needs it, again when it changed."""

import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from expunge.errors import ExpungeError
from expunge.evidence.store import (
    ITEMS,
    ORIGINAL,
    PLAIN,
    UNLEARNED,
    WEIGHTS,
    EvidenceStore,
    Item,
    Layers,
    Scores,
    Unit,
)
from expunge.provenance.keys import existing_key
from expunge.reporting.examples import FactHistory, facts
from expunge.reporting.redaction import OpenText, Redactor
from expunge.utils.file_names import EVIDENCE

MOST_KEPT = 8
"""Runs whose evidence stays in memory; ranking the facts of one takes up to seconds."""
_GONE = "The evidence was destroyed, or is not here."
_State = tuple[bytes | None, tuple[tuple[str, int, int], ...]]
"""The key, and name, time and size of each file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEvidence:
    """What the pages of a run need of its evidence."""

    facts: tuple[FactHistory, ...]
    """Facts of the forget set, worst first."""
    scores: Mapping[str, Mapping[str, Scores]]
    """Plain scores of the forget set by role and record: original, unlearned, one gold."""
    items: tuple[Item, ...]
    """Records, whose texts are what a redactor masks."""
    weights: Mapping[str, float] | None
    """Changed tensor to the size of its change, relative to the original's; None: not compared."""

    def redactor(self, *, masked: bool) -> Redactor:
        """Return what masks the texts of records, or shows them."""
        return Redactor(list(self.items)) if masked else OpenText()


@dataclass(slots=True)
class EvidenceReader:
    """Reads the evidence of runs, and keeps the last few.

    What was kept is dropped when a file of the evidence, or the key that opens it, is another one
    or gone: destroyed evidence is not shown.
    """

    _kept: OrderedDict[Path, tuple[_State, RunEvidence]] = field(
        default_factory=OrderedDict[Path, tuple[_State, RunEvidence]]
    )
    _lock: Lock = field(default_factory=Lock)

    def read(self, run: Path) -> RunEvidence | str:
        """Return the evidence of a run, or why there is nothing to show.

        Args:
            run: A finished run.
        """
        folder = run / EVIDENCE
        with self._lock:
            known = self._kept.pop(run, None)
            try:
                key = existing_key(run)
                state = key, _files(folder)
                found = known[1] if known and known[0] == state else _read(folder, key)
            except (ExpungeError, OSError) as error:
                return error.what if isinstance(error, ExpungeError) else "It cannot be read."
            if found is None:
                return _GONE
            self._kept[run] = state, found
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
            return found


def _files(folder: Path) -> tuple[tuple[str, int, int], ...]:
    if not folder.is_dir():
        return ()
    with os.scandir(folder) as entries:
        states = [(each.name, each.stat(follow_symlinks=False)) for each in entries]
    return tuple(sorted((name, state.st_mtime_ns, state.st_size) for name, state in states))


def _read(folder: Path, key: bytes | None) -> RunEvidence | None:
    store = EvidenceStore(folder, key=key)
    if not store.holds(ITEMS):
        return None
    items = tuple(store.items_with_facts())
    return RunEvidence(
        facts=facts(store), scores=_scores(store), items=items, weights=_weights(store)
    )


def _weights(store: EvidenceStore) -> dict[str, float] | None:
    unit = Unit(role=UNLEARNED, split="weights", attack=WEIGHTS, kind="layers")
    if not store.has(unit):
        return None
    rows = (row for row in store.rows(unit) if isinstance(row, Layers) and row.values)
    return {row.record: row.values[0] for row in rows}


def _scores(store: EvidenceStore) -> dict[str, Mapping[str, Scores]]:
    there = {unit.role: unit for unit in store.units() if _is_plain(unit)}
    gold = next((role for role in sorted(there) if role.startswith("gold")), "")
    roles = [role for role in (ORIGINAL, UNLEARNED, gold) if role in there]
    return {role: {row.record: row for row in store.scores(there[role])} for role in roles}


def _is_plain(unit: Unit) -> bool:
    return (unit.kind, unit.split, unit.test) == ("scores", "forget", PLAIN)
