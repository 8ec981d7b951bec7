"""The manifest: what lies in a run folder, bit for bit, and what it was made from.

The manifest finds every change that is not repeated in the manifest itself. It is not a signature:
whoever can rewrite the folder can write a new manifest. Keep its digest elsewhere to rule that out.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from expunge.errors import UsageError
from expunge.files import sha256_file, sha256_json, write_text
from expunge.report.facts import RunFacts
from expunge.report.pages import IN_FULL, MASKED
from expunge.report.serial import read_results

SCHEMA = "expunge.manifest/2"
"""Name and version of the layout of `manifest.json`."""

NAME = "manifest.json"

DESTROYED = "evidence-destroyed.json"
"""The note on the destruction of evidence, written after the manifest."""

_UNCOVERED_FILES = frozenset({NAME, "manifest.sig", DESTROYED, IN_FULL, MASKED})
_UNCOVERED_FOLDERS = frozenset({"checkpoints"})
_LOCK = ".lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """How the evidence of a run is kept, and until when."""

    sealed: bool
    """Whether it is encrypted under the operator's key."""
    expires: str
    """Date from which it is to be destroyed, ISO 8601."""
    redacted: bool
    """Whether pages mask the texts of records; one that does not goes with the evidence."""


def covered(run: Path) -> Iterator[Path]:
    """Yield every file and link of a run folder that the manifest must name, sorted by path.

    Left out are the manifest itself, its signature, the note on destroyed evidence, reports that
    were written aside, lock files, and the folder of checkpoints.
    """
    found: list[Path] = []
    for folder, names, files in os.walk(run):
        here = Path(folder)
        if here == run:
            names[:] = [name for name in names if name not in _UNCOVERED_FOLDERS]
            files = [name for name in files if name not in _UNCOVERED_FILES]
        found += [here / name for name in files if not name.endswith(_LOCK)]
        found += [here / name for name in names if (here / name).is_symlink()]
    yield from sorted(found, key=lambda path: path.relative_to(run).as_posix())


def write_manifest(
    run: Path,
    *,
    run_id: str,
    facts: RunFacts,
    models: Mapping[str, str],
    seeds: Mapping[str, int],
    data_fingerprints: Mapping[str, Sequence[str]],
    evidence: Retention,
) -> Path:
    """Write `manifest.json` over everything in the run folder, and return its path. Call it last.

    Args:
        run: The finished run folder, with `results.json`.
        run_id: Name of the run; survives moving the folder.
        facts: What the run did.
        models: Role (`original`, `unlearned`, `gold-0`, ...) to the model's digest or revision.
        seeds: Purpose to seed.
        data_fingerprints: Set of records to the keyed fingerprints of its records
            (`expunge.ledger.key`); the only trace of the records in the manifest.
        evidence: How the evidence is kept.

    Raises:
        UsageError: The folder holds a link: what it points to could change without a trace.
        InputError: `results.json` is malformed.
    """
    verdict = read_results(run).verdict
    body: dict[str, Any] = {
        "run": run_id,
        "created": facts.created,
        "verdict": {
            "ruling": str(verdict.ruling),
            "threat_model": verdict.threat_model,
            "tier": verdict.tier,
            "provisional": verdict.provisional,
        },
        "model": facts.model,
        "models": dict(sorted(models.items())),
        "device": facts.device,
        "precision": facts.precision,
        "method": facts.method.name if facts.method else None,
        **stages_of(facts),
        "versions": dict(sorted(facts.versions.items())),
        "seeds": dict(sorted(seeds.items())),
    }
    return write_body(run, body, data_fingerprints=data_fingerprints, evidence=evidence)


def write_body(
    run: Path,
    body: Mapping[str, Any],
    *,
    data_fingerprints: Mapping[str, Sequence[str]],
    evidence: Retention,
) -> Path:
    """Write a manifest that says `body`, and names every file in the folder. Call it last.

    Args:
        run: The finished run folder.
        body: What was done, and what came of it.
        data_fingerprints: As for `write_manifest`.
        evidence: How the evidence is kept.

    Raises:
        UsageError: The folder holds a link.
    """
    whole = {
        "schema": SCHEMA,
        **body,
        "data": {split: list(rows) for split, rows in sorted(data_fingerprints.items())},
        "evidence": asdict(evidence),
        "files": {path.relative_to(run).as_posix(): _entry(path) for path in covered(run)},
    }
    path = run / NAME
    write_text(path, render({**whole, "digest": sha256_json(whole)}))
    return path


def stages_of(facts: RunFacts) -> dict[str, object]:
    """Return what the manifest says of a chain: each method, its knobs, the weights it left."""
    rows = [
        {"method": stage.method.name, "knobs": stage.method.knobs, "weights": stage.weights}
        for stage in facts.stages
    ]
    return {"stages": rows} if rows else {}


def render(manifest: Mapping[str, Any]) -> str:
    """Return the one text that a manifest of this content has."""
    return json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _entry(path: Path) -> dict[str, str | int]:
    if path.is_symlink():
        raise UsageError(
            "link-in-run",
            what=f"{path} is a link",
            why="what a link points to can change without a trace in the run folder",
            fix="replace the link by a copy of the file, then run the same command again",
        )
    return {"sha256": sha256_file(path), "bytes": path.stat().st_size}
