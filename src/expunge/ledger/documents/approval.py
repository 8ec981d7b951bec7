"""Approval: a person lets a run out, by name and by signature.

Only a run that passed can be approved, and only while every file is what its manifest says. The
numbers are not computed again: that is `expunge verify`.
"""

from pathlib import Path

from expunge.errors import GateError, UsageError
from expunge.ledger.documents.record import read_record
from expunge.ledger.documents.sheet import one_line
from expunge.provenance.attestation import attest, write_approval
from expunge.provenance.destroy import read_destruction
from expunge.provenance.keys import existing_key
from expunge.provenance.manifest import changed_files
from expunge.provenance.signature import SigningKey, key_fingerprint
from expunge.utils.io import AnyPath


def approve(run: AnyPath, *, by: str, signing: SigningKey) -> tuple[Path, tuple[str, ...]]:
    """Approve the release of a run, and return the path of the approval with what to know of it.

    Args:
        run: The folder of a finished run that passed.
        by: Name of whoever approves it.
        signing: The key of that person.

    Raises:
        UsageError: No name is given.
        GateError: The verdict is no pass.
        InputError: The run has not ended, was changed, or is none.

    Example:
        >>> approve(Path("no-such-run"), by="Ada", signing=SigningKey(seed=bytes(32)))
        Traceback (most recent call last):
            ...
        expunge.errors.InputError: error[no-run]: no-such-run is not a run folder...
    """
    run = Path(run)
    name = require_name(by)
    key = existing_key(run)
    record = read_record(run, key=key)
    if not record.passed:
        raise GateError(
            "not-approvable",
            what=f"the verdict of this run is {record.results.verdict.ruling}",
            why="only a run that passed can be let out",
            fix="read its report, and approve the run that passes",
        )
    gone = read_destruction(run, record.manifest, key=key)
    names = record.manifest["files"].keys() - set(gone.files if gone else ())
    if changed := changed_files(run, record.manifest, sorted(names)):
        raise GateError(
            "not-verified",
            what=f"{changed[0]} of {run} is not what the manifest recorded",
            why="an approval would stand for something that nobody audited",
            fix="restore the folder from a copy; `expunge verify` names every change",
        )
    path = write_approval(run, attest("approver", name, digest=record.digest, key=signing))
    notes = ["the numbers were not computed again: expunge verify does that"]
    if record.signer == key_fingerprint(signing.public):
        notes.append("the same key signed the run: no second person stands for it")
    if record.results.verdict.provisional:
        notes.append("the verdict is provisional: level quick is not meant for a release")
    return path, tuple(notes)


def require_name(by: str) -> str:
    """Return the name of whoever approves, on one line.

    Raises:
        UsageError: There is none.
    """
    if name := one_line(by):
        return name
    raise UsageError(
        "no-name",
        what="--by names nobody",
        why="an approval is the act of a person",
        fix="name whoever approves, for example --by 'Ada Example'",
    )
