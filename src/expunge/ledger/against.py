"""What a model is held against: a run folder stands for the request of that run, and no other.

Its settings name data and models by the paths that were typed. From another folder, or after a file
was changed, these lead to others, and a verdict on these would pass for one on the run.
"""

from pathlib import Path

from expunge.audit.collect import item
from expunge.errors import UsageError
from expunge.files import read_json
from expunge.ledger.key import existing_key, item_fingerprints
from expunge.ledger.manifest import NAME
from expunge.prepare import Prepared


def require_same_request(run: Path, prepared: Prepared, *, original: str) -> None:
    """Check that what a run's settings lead to is what the run was about.

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
    if not (run / NAME).is_file():
        return
    manifest = read_json(run / NAME)
    changed = _records(run, prepared, manifest.get("data", {}))
    known = manifest.get("models", {}).get("original", original)
    if manifest.get("precision") == prepared.source.precision and known != original:
        changed.append("its original had other weights")
    if changed:
        raise UsageError(
            "another-request",
            what=f"what the settings of {run} lead to is not what it was about:"
            f" {'; '.join(changed)}",
            why="they name data and models by the paths that were typed: from another folder, after"
            " a change, or under other flags these are others",
            fix="run this where the run was made, on its files; to judge by what is there now:"
            f" --against {run / 'config.toml'}",
        )


def _records(run: Path, prepared: Prepared, known: dict[str, list[str]]) -> list[str]:
    """Tell how the forget records differ, without any of them; nothing where they do not."""
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
