"""`expunge certificate`: what is claimed of which bytes, until when, and who signed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from expunge.cli.documents import Out, Replace, free
from expunge.cli.session import Given, Session
from expunge.cli.settings import run_folder
from expunge.errors import GateError, UsageError


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class SigningFlags:
    """Who signs, and how long the claim is to stand."""

    role: Annotated[
        Literal["operator", "auditor"],
        Parameter(env_var="EXPUNGE_ROLE", help="in which role your key signs"),
    ] = "operator"
    by: Annotated[
        str, Parameter(show_default=False, env_var="EXPUNGE_BY", help="name of whoever signs")
    ] = ""
    unsigned: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            env_var="EXPUNGE_UNSIGNED",
            help="add no signature: for a draft, or to draw a signed certificate as PDF",
        ),
    ] = False
    until: Annotated[
        str,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_UNTIL",
            help="day until which the claim stands, YYYY-MM-DD; default twelve months",
        ),
    ] = ""


def certificate(
    source: Annotated[
        Path | None, Parameter(help="run folder, or a certificate as JSON to be signed or drawn")
    ] = None,
    /,
    *,
    out: Out = None,
    flags: SigningFlags | None = None,
    verify: Annotated[
        Path | None,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_CERTIFICATE",
            help="check this certificate instead of writing one",
        ),
    ] = None,
    key: Annotated[
        Path | None,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_SIGNER",
            help="public key of whoever must have signed it, with --verify",
        ),
    ] = None,
    yes: Replace = False,
    session: Given,
) -> int:
    """Write the certificate of a run, sign one that is there, or check one.

    Your key (`expunge keys`) signs it. An auditor signs the same file with --role auditor.
    """
    if source is not None and verify is None:
        return _write(source, out, flags or SigningFlags(), yes=yes, session=session)
    if source is None and verify is not None:
        return _check(verify, key, session)
    raise UsageError(
        "one-certificate",
        what="name either a run to certify, or a certificate with --verify",
        why="one call writes or checks, never both",
        fix="expunge certificate runs/latest, or expunge certificate --verify FILE.json",
    )


def _write(
    source: Path, out: Path | None, flags: SigningFlags, *, yes: bool, session: Session
) -> int:
    """Write or sign a certificate."""
    is_file = source.suffix == ".json" and not source.is_dir()
    folder = source if is_file else run_folder(source)

    from expunge.ledger.documents.certificate import certificate as write
    from expunge.ledger.documents.letter import default_path
    from expunge.ledger.documents.sheet import require_format
    from expunge.provenance.signature import require_signing_key
    from expunge.utils.dates import day_of

    path = out or (source if is_file else default_path(folder, "certificate.json"))
    require_format(path)
    last = day_of(flags.until, "--until") if flags.until else None
    signing = None if flags.unsigned else require_signing_key(folder)
    # A signature is added to the file that it signs: that one is meant to be replaced.
    free(path, yes=yes or (is_file and path == source))
    write(folder, out=path, signing=signing, role=flags.role, by=flags.by, until=last)
    session.console.line("wrote", str(path))
    session.console.line("signed", "by nobody" if signing is None else f"as {flags.role}")
    session.console.event("done", {"certificate": path, "exit": 0})
    return 0


def _check(path: Path, key: Path | None, session: Session) -> int:
    """Say what is wrong with a certificate."""
    from expunge.ledger.documents.certificate import verify_certificate
    from expunge.provenance.signature import read_public_key

    found = verify_certificate(path, signer=None if key is None else read_public_key(key))
    for note in found.notes:
        session.console.note(note)
    for problem in found.problems:
        session.console.line("problem", problem)
    exit_code = 0 if found.ok else 3
    told = {"problems": list(found.problems), "notes": list(found.notes), "exit": exit_code}
    session.console.event("done", told)
    if not found.ok:
        raise GateError(
            "not-verified",
            what=f"{len(found.problems)} problem(s) in {path}",
            why=found.problems[0],
            fix="do not rely on it; ask whoever signed it for a new one",
        )
    session.console.line("verified", "its signatures fit, and its claim has not ended")
    return 0
