"""Lineage: the runs that a model comes from, so that no later one teaches what they erased.

A request that follows another starts from the folder that the first one left, and its retain set
is often "everything but the new forget set", which holds the old one. Manifests have keyed
fingerprints of what was forgotten, and only whoever has the key can compare.

What earlier runs left in the cache of answers bears the same fingerprints.

A run folder stands for the request of that run, and no other.

Its settings name data and models by the paths that were typed. From another folder, or after a file
was changed, these lead to others, and a verdict on these would pass for one on the run.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from expunge.config.resolve import beside, parsed
from expunge.data.records import Record
from expunge.errors import InputError, UsageError, named_in_part
from expunge.evidence.answer_cache import AnswerCache
from expunge.evidence.collect import item
from expunge.models.reference import run_of_model
from expunge.preparation.prepare import Prepared
from expunge.provenance.keys import existing_key, item_fingerprints, record_fingerprint
from expunge.utils.file_names import MANIFEST, SETTINGS
from expunge.utils.io import read_table

_MOST_NAMED = 5
_data = TypeAdapter(dict[str, list[str]])


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
        forgotten = set(_fingerprints(run).get("forget", ()))
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
        run = run_of_model(Path(name))
        if not all((run / file).is_file() for file in (MANIFEST, SETTINGS)):
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
        model = parsed(run / SETTINGS).get("model")
    except UsageError:
        return []
    return [str(beside(run, model))] if isinstance(model, str) else []


def require_same_request(run: Path, prepared: Prepared, *, original: str) -> None:
    """Check that the data and models of a run's settings are still those of the run.

    Records are compared by their fingerprints, or by their number where the operator's key is not
    the one that the run was made with; the original only in the same number format.

    Args:
        run: The run folder; one without a manifest has nothing to compare with.
        prepared: What its settings lead to now.
        original: Digest of the original that they lead to.

    Raises:
        UsageError: The forget records or the original are others; or as `operator_key`.
        InputError: As `operator_key`.
    """
    if not (run / MANIFEST).is_file():
        return
    manifest = read_table(run / MANIFEST)
    changed = _records(run, prepared, _fingerprints(run))
    models = manifest.get("models")
    known = models.get("original", original) if isinstance(models, dict) else original
    if manifest.get("precision") == prepared.source.precision and known != original:
        changed.append("its original had other weights")
    if changed:
        raise UsageError(
            "another-request",
            what=f"the settings of {run} no longer lead to its data and models:"
            f" {'; '.join(changed)}",
            why="they name data and models by the paths that were typed: from another folder, after"
            " a change, or under other flags these are others",
            fix="run this where the run was made, on its files; to judge by what is there now:"
            f" --against {run / SETTINGS}",
        )


def _fingerprints(run: Path) -> dict[str, list[str]]:
    """Return the keyed fingerprints of a manifest by set.

    Raises:
        InputError: `not-json`: they are something else.
    """
    try:
        return _data.validate_python(read_table(run / MANIFEST).get("data", {}))
    except ValidationError as error:
        raise InputError(
            "not-json",
            what=f"{run / MANIFEST} does not name its records by fingerprints",
            why="the file was changed, or another program wrote it",
            fix="restore the folder from a copy, or run the command that wrote it again",
        ) from error


def _records(run: Path, prepared: Prepared, known: dict[str, list[str]]) -> list[str]:
    """Say how the forget records differ, without their text; nothing where they agree."""
    before, count = known.get("forget", []), len(prepared.scope.forget)
    key = existing_key(run)
    # All sets, for the general questions are those of every run: they tell whose key this is.
    rows = [item(each, split) for split, group in prepared.audited().items() for each in group]
    now = {} if key is None else item_fingerprints(rows, key)
    if any(set(now[split]) & set(known.get(split, ())) for split in now):
        same = len(set(now["forget"]) & set(before))
        if sorted(now["forget"]) == sorted(before):
            return []
        return [f"it had {len(before)} forget records, now there are {count}, {same} the same"]
    return [] if len(before) == count else [f"it had {len(before)} forget records, now {count}"]


def answer_cache(prepared: Prepared, key: bytes, warn: Callable[[str], None]) -> AnswerCache:
    """Return what original and golds said in earlier runs, as a run with these inputs sees it.

    Args:
        prepared: The inputs.
        key: The operator's key.
        warn: Told of what could not be read or written.
    """
    records = prepared.scope.forget
    forget = tuple(record_fingerprint(each.question, each.completion, key) for each in records)
    return AnswerCache.of(prepared, key=key, forget=forget, warn=warn)
