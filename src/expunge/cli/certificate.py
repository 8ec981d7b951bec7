"""`expunge certificate`: what is claimed of which bytes, until when, and who signed."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from expunge.cli.documents import Out, Replace, free
from expunge.cli.session import Given, Session
from expunge.cli.settings import run_folder
from expunge.errors import GateError, UsageError


def certificate(
    source: Annotated[
        Path | None, Parameter(help="run folder, or a certificate as JSON to be signed or drawn")
    ] = None,
    /,
    *,
    out: Out = None,
    role: Annotated[
        Literal["operator", "auditor"],
        Parameter(env_var="EXPUNGE_ROLE", help="in which role your key signs"),
    ] = "operator",
    by: Annotated[
        str, Parameter(show_default=False, env_var="EXPUNGE_BY", help="name of whoever signs")
    ] = "",
    unsigned: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            env_var="EXPUNGE_UNSIGNED",
            help="add no signature: for a draft, or to draw a signed certificate as PDF",
        ),
    ] = False,
    until: Annotated[
        str,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_UNTIL",
            help="day until which the claim stands, YYYY-MM-DD; default twelve months",
        ),
    ] = "",
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
            help="public key of whoever must have signed it",
        ),
    ] = None,
    yes: Replace = False,
    session: Given,
) -> int:
    """Write the certificate of a run, sign one that is there, or check one.

    Your key (`expunge keys`) signs it. An auditor signs the same file with --role auditor.
    """
    if (source is None) == (verify is None):
        raise UsageError(
            "one-certificate",
            what="name either a run to certify, or a certificate with --verify",
            why="one call writes or checks, never both",
            fix="expunge certificate runs/latest, or expunge certificate --verify FILE.json",
        )
    if source is None:
        assert verify is not None
        return _check(verify, key, session)
    if key is not None:
        raise UsageError(
            "key-without-verify",
            what="--key is for --verify",
            why="a certificate is signed with your own private key",
            fix="leave --key away, or check the certificate with --verify FILE --key FILE.pub",
        )
    is_file = source.suffix == ".json" and not source.is_dir()
    folder = source if is_file else run_folder(source)

    from expunge.ledger.documents.certificate import certificate as write
    from expunge.ledger.documents.letter import default_path
    from expunge.ledger.documents.record import require_day
    from expunge.ledger.documents.sheet import require_format
    from expunge.provenance.signature import require_signing_key

    path = out or (source if is_file else default_path(folder, "certificate.json"))
    require_format(path)
    signing = None if unsigned else require_signing_key(folder)
    last = require_day(until, "--until") if until else None
    # A signature is added to the file that it signs: that one is meant to be replaced.
    free(path, yes=yes or (is_file and path == source))
    write(folder, out=path, signing=signing, role=role, by=by, until=last)
    session.console.line("wrote", str(path))
    session.console.line("signed", "by nobody" if signing is None else f"as {role}")
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
