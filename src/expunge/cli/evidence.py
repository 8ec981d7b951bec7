"""`expunge evidence`: what is kept of a run, and the end of it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from expunge.cli.session import Given, Session
from expunge.cli.settings import run_folder


def evidence(
    action: Annotated[Literal["show", "destroy"], Parameter(help="show or destroy")],
    run: Annotated[Path, Parameter(help="run folder, or the attack_store of many")],
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
    from expunge.evidence.encryption import SHARED
    from expunge.evidence.store import EvidenceStore
    from expunge.provenance.destroy import destroy_evidence, kept
    from expunge.provenance.keys import key_path, operator_key
    from expunge.provenance.signature import signing_key

    if (run / SHARED).is_file():
        return _shared(action, run, expired=expired, session=session)
    console, folder = session.console, run_folder(run)
    if action == "destroy":
        from expunge.models.guarded import guard_to_json as told_by_guard  # loads torch

        done = destroy_evidence(
            folder,
            key=operator_key(key_path(), run=folder),
            only_expired=expired,
            now=datetime.now(UTC),
            signing=signing_key(folder),
        )
        console.line("destroyed", f"{len(done.files)} files of {run}, on {done.at}")
        console.line("kept", "scores, verdict, manifest and keyed fingerprints; verify says so")
        if told := told_by_guard(folder):
            held = f"the guard, which tells of the forget set ({told})"
            console.line("kept", f"{held} until its folder is deleted")
        console.event("done", {"destroyed": list(done.files), "at": done.at, "exit": 0})
        return 0
    store = EvidenceStore(folder / "evidence")
    count = kept(store.folder)
    console.line("evidence", f"{count} files, {'sealed' if store.sealed else 'open'}")
    console.event("done", {"files": count, "sealed": store.sealed, "exit": 0})
    return 0


def _shared(action: str, folder: Path, *, expired: bool, session: Session) -> int:
    """Do the same with the folder that attacks of many runs share."""
    from expunge.provenance.destroy import destroy_store, kept, kept_until

    console = session.console
    if action == "destroy":
        count = destroy_store(folder, only_expired=expired, now=datetime.now(UTC))
        console.line("destroyed", f"{count} files of {folder}; runs that need them make them again")
        console.event("done", {"destroyed": count, "exit": 0})
        return 0
    until = kept_until(folder)
    count = kept(folder)
    console.line("evidence", f"{count} files, shared by runs; kept until {until}")
    console.event("done", {"files": count, "until": until, "exit": 0})
    return 0
