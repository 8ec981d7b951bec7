"""The manifest: what lies in a run folder, bit for bit, and what it was made from.

The manifest finds every change that is not repeated in the manifest itself. Whoever can rewrite the
folder can write a new manifest, unless it is signed (`provenance.signature`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from expunge.errors import InputError
from expunge.evidence.preregistration import Preregistration
from expunge.provenance import files
from expunge.provenance.attestation import APPROVAL
from expunge.provenance.published import write_public_manifest
from expunge.provenance.signature import MANIFEST_SCHEMA as SCHEMA
from expunge.provenance.signature import (
    SigningKey,
    manifest_digest,
    read_signature,
    write_signature,
)
from expunge.reporting.build import IN_FULL, MASKED
from expunge.reporting.claims import claim_of
from expunge.reporting.schema import RunFacts, read_results
from expunge.utils.file_names import MANIFEST, RESULTS, RUN, SIGNATURE
from expunge.utils.io import (
    did_you_mean,
    json_text,
    read_table,
    sha256_file,
    sha256_json,
    write_text,
)

DESTROYED = "evidence-destroyed.json"
"""The note on the destruction of evidence, written after the manifest."""

_UNCOVERED_FILES = frozenset({MANIFEST, SIGNATURE, APPROVAL, DESTROYED, IN_FULL, MASKED})
_WHILE_RUNNING = frozenset({"checkpoints", ".lock"})
"""What is in the folder of a run while it is worked on, and gone when it has ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """How the evidence of a run is kept, and until when."""

    sealed: bool
    """Whether it is encrypted under the operator's key."""
    expires: str
    """Date from which it is to be destroyed, ISO 8601."""
    redacted: bool
    """Whether pages mask the texts of records; one that does not goes with the evidence."""


def covered(run: Path, *, finished: bool = False) -> Iterator[Path]:
    """Yield every file and link of a run folder that the manifest must name, sorted by path.

    Left out are the manifest itself, its signature, its approval, the note on destroyed evidence,
    reports that were written aside, and while the run goes on its lock and its checkpoints.

    Args:
        run: The run folder.
        finished: Whether the run has ended: then it has neither lock nor checkpoints.
    """
    left_out = _UNCOVERED_FILES if finished else _UNCOVERED_FILES | _WHILE_RUNNING
    yield from files.covered(run, left_out=left_out)


def finished_manifest(run: Path, read: Iterable[str]) -> dict[str, Any]:
    """Return the manifest of a finished run, checked with the files that will be read.

    Args:
        run: The run folder.
        read: Files of the run whose content is used, by their path in it; of those, the ones that
            the manifest names must be as it says.

    Raises:
        InputError: `no-run`: it is no run folder. `unfinished-run`: it has no manifest.
            `manifest-changed`: manifest, signature or a file is not what the run wrote.
    """
    if not run.is_dir() or not any((run / n).is_file() for n in (RUN, RESULTS, MANIFEST)):
        raise InputError(
            "no-run",
            what=f"{run} is not a run folder",
            why="a run folder is what `expunge forget`, `audit` or `attack` wrote",
            fix=did_you_mean(str(run), "give its path, for example runs/latest"),
        )
    if not (run / MANIFEST).is_file():
        raise InputError(
            "unfinished-run",
            what=f"the run in {run} has not ended: it has no {MANIFEST}",
            why="nobody may speak of results that may still change",
            fix="finish the run with the same command that began it",
        )
    manifest = read_table(run / MANIFEST)
    signature = read_signature(run)
    if manifest.get("schema") != SCHEMA or manifest.get("digest") != manifest_digest(manifest):
        raise manifest_changed(run, "its own digest or its schema does not match")
    if signature is not None and not signature.fits:
        raise manifest_changed(run, "its signature is that of another manifest")
    names = [name for name in read if name in manifest.get("files", {})]
    if changed := changed_files(run, manifest, names):
        raise manifest_changed(run, f"it does not cover {changed[0]} as it is now")
    return manifest


def manifest_changed(run: Path, what: str) -> InputError:
    """Return the error of a run whose manifest does not fit what lies there."""
    return InputError(
        "manifest-changed",
        what=f"{run / MANIFEST}: {what}",
        why="what somebody changed after the run would be repeated",
        fix=f"`expunge verify {run}` names every change; restore the folder from a copy",
    )


def changed_files(run: Path, manifest: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Return which files of a run are not what its manifest says; missing ones are among them.

    Args:
        run: The run folder.
        manifest: Its manifest.
        names: The files to look at, by their path in the run.
    """
    return [
        name
        for name in names
        if not (run / name).is_file()
        or sha256_file(run / name) != manifest["files"].get(name, {}).get("sha256")
    ]


def write_manifest(
    run: Path,
    *,
    run_id: str,
    facts: RunFacts,
    models: Mapping[str, str],
    seeds: Mapping[str, int],
    data_fingerprints: Mapping[str, Sequence[str]],
    evidence: Retention,
    registered: Preregistration | None = None,
    signing: SigningKey | None = None,
) -> Path:
    """Write `manifest.json` over everything in the run folder, and return its path. Call it last.

    The model folder, which may be published without the rest, gets a manifest of its own.

    Args:
        run: The finished run folder, with `results.json`.
        run_id: Name of the run; survives moving the folder.
        facts: What the run did.
        models: Role (`original`, `unlearned`, `gold-0`, ...) to the model's digest or revision.
        seeds: Purpose to seed.
        data_fingerprints: Set of records to the keyed fingerprints of its records
            (`expunge.provenance.keys`); the only trace of the records in the manifest.
        evidence: How the evidence is kept.
        registered: The preregistration, made before the judged model was queried.
        signing: The key that signs it; None: it is not signed.

    Raises:
        UsageError: The folder holds a link: what it points to could change without a trace.
        InputError: `results.json` is malformed.
    """
    verdict = read_results(run).verdict
    claim = claim_of(verdict, facts).to_json()
    body: dict[str, Any] = {
        "run": run_id,
        "created": facts.created,
        "verdict": {
            "ruling": str(verdict.ruling),
            "threat_model": verdict.threat_model,
            "tier": verdict.tier,
            "provisional": verdict.provisional,
        },
        "claim": claim,
        "model": facts.model,
        "models": dict(sorted(models.items())),
        "device": facts.device,
        "precision": facts.precision,
        "method": facts.method.name if facts.method else None,
        **stages_of(facts),
        "versions": dict(sorted(facts.versions.items())),
        "seeds": dict(sorted(seeds.items())),
        **_registration(registered),
    }
    write_public_manifest(run, body, signing=signing)
    return write_body(
        run, body, data_fingerprints=data_fingerprints, evidence=evidence, signing=signing
    )


def write_body(
    run: Path,
    body: Mapping[str, Any],
    *,
    data_fingerprints: Mapping[str, Sequence[str]],
    evidence: Retention,
    signing: SigningKey | None = None,
) -> Path:
    """Write a manifest that says `body`, and names every file in the folder. Call it last.

    Args:
        run: The finished run folder.
        body: What was done, and what came of it.
        data_fingerprints: As for `write_manifest`.
        evidence: How the evidence is kept.
        signing: As for `write_manifest`.

    Raises:
        UsageError: The folder holds a link.
    """
    whole = {
        "schema": SCHEMA,
        **body,
        "data": {split: list(rows) for split, rows in sorted(data_fingerprints.items())},
        "evidence": asdict(evidence),
        "files": files.entries(run, left_out=_UNCOVERED_FILES | _WHILE_RUNNING),
    }
    path = run / MANIFEST
    text = json_text({**whole, "digest": sha256_json(whole)})
    write_signature(run, text.encode(), signing)
    write_text(path, text)
    return path


def _registration(registered: Preregistration | None) -> dict[str, object]:
    if registered is None:
        return {}
    row = {
        "digest": registered.digest,
        "registered": registered.registered,
        "late": registered.late,
    }
    return {"preregistration": row}


def stages_of(facts: RunFacts) -> dict[str, object]:
    """Return what the manifest says of a chain: methods, parameters, and the weights left."""
    rows = [
        {
            "method": stage.method.name,
            "parameters": stage.method.parameters,
            "weights": stage.weights,
        }
        for stage in facts.stages
    ]
    return {"stages": rows} if rows else {}
