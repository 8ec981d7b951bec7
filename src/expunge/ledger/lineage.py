"""Lineage: the runs that a model comes from, so that no later one teaches what they erased.

A request that follows another starts from the folder that the first one left, and its retain set
is often "everything but the new forget set", which holds the old one. Manifests have keyed
fingerprints of what was forgotten, and only whoever has the key can compare.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from expunge.config_file import beside, parsed
from expunge.data.record import Record
from expunge.errors import InputError, UsageError, named_in_part
from expunge.files import read_json
from expunge.ledger.key import existing_key, record_fingerprint
from expunge.ledger.manifest import NAME

_CONFIG = "config.toml"
_MOST_NAMED = 5


def require_not_forgotten(reference: str, kept: Sequence[Record]) -> None:
    """Refuse to keep what an earlier run has made the same model forget.

    Runs are found by the folders that `reference` names, and those that their settings name; each
    record counts as it stands in the manifest, question and answer alike. Without the operator's
    key, or with another one, nothing can be compared.

    Args:
        reference: The model that is worked on.
        kept: Records of the retain set and the neighbours, as training sees them.

    Raises:
        InputError: `forgotten-before`.
    """
    for run in earlier_runs(reference):
        key = existing_key(run)
        forgotten = set(read_json(run / NAME).get("data", {}).get("forget", ()))
        if key is None or not forgotten:
            continue
        again = [
            record
            for record in kept
            if record_fingerprint(record.question, record.completion, key) in forgotten
        ]
        if again:
            places = [record.source or record.id for record in again]
            raise InputError(
                "forgotten-before",
                what=f"{len(again)} records to keep are among those that {run} was to forget: "
                + named_in_part(places, most=_MOST_NAMED),
                why="training would teach the model again what it was made to forget",
                fix="leave them out of retain and neighbours",
            )


def earlier_runs(reference: str) -> Iterator[Path]:
    """Yield the finished run folders that a model comes from, the latest first.

    Args:
        reference: Of a model; `BASE+ADAPTER` names two.
    """
    seen: set[Path] = set()
    waiting = [reference]
    while waiting:
        name = waiting.pop(0)
        run = Path(name)
        if not (run / NAME).is_file():
            first, _, second = name.rpartition("+")
            waiting += [part for part in (second, first) if first and second]
            continue
        if run.resolve() in seen:
            continue
        seen.add(run.resolve())
        yield run
        waiting += _original_of(run)


def _original_of(run: Path) -> list[str]:
    """Return the model that a run began with, as far as its settings still say so."""
    try:
        model = parsed(run / _CONFIG).get("model")
    except UsageError:
        return []
    return [str(beside(run, model))] if isinstance(model, str) else []
