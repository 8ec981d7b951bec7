"""`expunge evidence`: what is kept of a run, and the end of it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from expunge.cli.resolved import run_folder
from expunge.cli.session import Given


def evidence(
    action: Annotated[Literal["show", "destroy"], Parameter(help="show or destroy")],
    run: Annotated[Path, Parameter(help="run folder")],
    /,
    *,
    expired: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            env_var="EXPUNGE_EXPIRED",
            help="destroy only after the date in the manifest",
        ),
    ] = False,
    session: Given,
) -> int:
    """Show what is kept of a run, or destroy it; the manifest stays valid."""
    from expunge.audit.evidence import EvidenceStore
    from expunge.ledger.destroy import destroy_evidence
    from expunge.ledger.key import key_path, operator_key

    console, folder = session.console, run_folder(run)
    if action == "destroy":
        done = destroy_evidence(
            folder,
            key=operator_key(key_path(), run=folder),
            only_expired=expired,
            now=datetime.now(UTC),
        )
        console.line("destroyed", f"{len(done.files)} files of {run}, on {done.at}")
        console.line("kept", "scores, verdict, manifest and keyed fingerprints; verify says so")
        console.event("done", {"destroyed": list(done.files), "at": done.at, "exit": 0})
        return 0
    store = EvidenceStore(folder / "evidence")
    count = len(store.units())
    console.line("evidence", f"{count} units, {'sealed' if store.sealed else 'open'}")
    console.event("done", {"units": count, "sealed": store.sealed, "exit": 0})
    return 0
