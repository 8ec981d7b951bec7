"""`expunge verify`: does a run folder still say what it said?"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.session import Given, quiet_libraries
from expunge.cli.settings import run_folder
from expunge.errors import GateError, UsageError


def verify(
    run: Annotated[Path, Parameter(help="run folder, or its model folder alone")],
    /,
    *,
    key: Annotated[
        Path | None,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_SIGNER",
            help="public key of whoever must have signed the run (`expunge keys`)",
        ),
    ] = None,
    approver: Annotated[
        Path | None,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_APPROVER",
            help="public key of whoever must have approved the run (`expunge approve`)",
        ),
    ] = None,
    session: Given,
) -> int:
    """Check files against the manifest, numbers against the evidence, and who signed them."""
    console = session.console
    quiet_libraries(verbose=session.verbose)  # a model is loaded, to compare its weights
    from expunge.provenance.published import is_published

    published = is_published(run)
    folder = run if published else run_folder(run, linked=True)

    from expunge.provenance.keys import existing_key
    from expunge.provenance.signature import read_public_key
    from expunge.provenance.verify import verify as verify_run
    from expunge.provenance.verify import verify_published

    signer = None if key is None else read_public_key(key)
    approved = _approver(approver, run, published=published)
    if published:
        found = verify_published(folder, signer=signer)
    else:
        found = verify_run(folder, key=existing_key(folder), signer=signer, approver=approved)
    for note in found.notes:
        console.note(note)
    for problem in found.problems:
        console.line("problem", f"{problem.path}: {problem.what}")
        console.event("problem", {"path": problem.path, "what": problem.what})
    ended = {"ok": found.ok, "digest": found.digest, "exit": 0 if found.ok else 3}
    console.event("done", {**ended, "signer": found.signer, "notes": list(found.notes)})
    if not found.ok:
        raise GateError(
            "not-verified",
            what=f"{len(found.problems)} problem(s) in {run}",
            why="a file or a number is not what the manifest recorded",
            fix="do not rely on this run; restore it from a copy, or run it again",
        )
    console.line("verified", f"{found.files} files, {found.scores} numbers computed again")
    said = f"by {found.signer}" if found.signer else "by nobody: anyone could have written this run"
    console.line("signed", said)
    console.line("digest", found.digest)
    return 0


def _approver(path: Path | None, run: Path, *, published: bool) -> bytes | None:
    """Return the key that must have approved the run; None where nobody must.

    Raises:
        UsageError: A published model folder is verified, which holds no approval.
        InputError: The file holds no public key.
    """
    if path is None:
        return None
    if published:
        raise UsageError(
            "approver-needs-run",
            what=f"{run} is a published model folder, which holds no approval",
            why="an approval lies in the run folder",
            fix="verify the run folder instead",
        )

    from expunge.provenance.signature import read_public_key

    return read_public_key(path)
