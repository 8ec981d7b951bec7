"""`expunge approve`: a person lets a run out."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.documents import Replace, free
from expunge.cli.session import Given
from expunge.cli.settings import run_folder


def approve(
    run: Annotated[Path, Parameter(help="run folder")],
    /,
    *,
    by: Annotated[str, Parameter(env_var="EXPUNGE_BY", help="name of whoever approves it")],
    yes: Replace = False,
    session: Given,
) -> int:
    """Approve the release of a run that passed, by name and by signature.

    The key is that of `expunge keys`. `expunge verify RUN --approver FILE.pub` refuses a run that
    its owner has not approved as it is.
    """
    folder = run_folder(run)

    from expunge.ledger.documents.approval import approve as approve_run
    from expunge.ledger.documents.approval import require_name
    from expunge.provenance.attestation import APPROVAL
    from expunge.provenance.signature import require_signing_key

    name, signing = require_name(by), require_signing_key(folder)
    free(folder / APPROVAL, yes=yes)
    path, notes = approve_run(folder, by=name, signing=signing)
    console = session.console
    console.line("approved", str(path))
    for note in notes:
        console.note(note)
    console.event("done", {"approval": path, "notes": list(notes), "exit": 0})
    return 0
