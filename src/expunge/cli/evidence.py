"""`expunge evidence`: what is kept of a run, and the end of it."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from expunge.cli.session import Given, Session
from expunge.cli.settings import run_folder
from expunge.errors import UsageError
from expunge.utils.file_names import EVIDENCE
from expunge.utils.io import require_no_special_files


def evidence(
    action: Annotated[Literal["show", "destroy"], Parameter(help="show or destroy")],
    run: Annotated[Path, Parameter(help="folder of a run or a matrix, or one that runs share")],
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
    yes: Annotated[
        bool,
        Parameter(
            negative="", show_default=False, env_var="EXPUNGE_YES", help="destroy without asking"
        ),
    ] = False,
    session: Given,
) -> int:
    """Show what is kept of a run, or destroy it; the manifest stays valid."""
    from expunge.evidence.encryption import SHARED
    from expunge.provenance.destroy import is_matrix, is_reference_store

    if run.is_dir():
        require_no_special_files(run)
    if (run / SHARED).is_file():
        kind = _shared
    elif is_matrix(run):
        kind = _matrix
    elif is_reference_store(run):
        kind = _references
    else:
        run, kind = run_folder(run), _run
    if action == "destroy" and not yes:
        _confirm(run)
    return kind(action, run, expired=expired, session=session)


def _confirm(folder: Path) -> None:
    """Ask whether the evidence in a folder is to be destroyed.

    Raises:
        UsageError: `not-confirmed`: the answer is no, or there is nobody to answer.
    """
    question = f"destroy the evidence in {folder}? It cannot be brought back. [y/N] "
    if sys.stdin.isatty() and input(question).strip().lower() in ("y", "yes"):
        return
    raise UsageError(
        "not-confirmed",
        what=f"nothing in {folder} was destroyed",
        why="what is destroyed cannot be brought back, and nobody said yes",
        fix="run the same command with --yes",
    )


def _run(action: str, folder: Path, *, expired: bool, session: Session) -> int:
    """Do it with the folder of a run."""
    from expunge.evidence.store import EvidenceStore
    from expunge.provenance.destroy import destroy_evidence, kept, shared_of
    from expunge.provenance.keys import key_path, operator_key
    from expunge.provenance.signature import signing_key

    console = session.console
    shared = shared_of(folder)
    if action == "show":
        store = EvidenceStore(folder / EVIDENCE)
        count = kept(store.folder)
        console.line("evidence", f"{count} files, {'sealed' if store.sealed else 'open'}")
        for each in shared:
            console.line("shared", f"{each}, with other runs")
        console.event("done", {"files": count, "sealed": store.sealed, "exit": 0})
        return 0
    from expunge.models.guarded import guard_to_json as told_by_guard  # loads torch

    done = destroy_evidence(
        folder,
        key=operator_key(key_path(), run=folder),
        only_expired=expired,
        now=datetime.now(UTC),
        signing=signing_key(folder),
    )
    console.line("destroyed", f"{len(done.files)} files of {folder}, on {done.at}")
    console.line("kept", "scores, verdict, manifest and keyed fingerprints; verify says so")
    if told := told_by_guard(folder):
        held = f"the guard, which tells of the forget set ({told})"
        console.line("kept", f"{held} until its folder is deleted")
    _say_holders(done.holds, session)
    _forget_answers(folder, session)
    for each in shared:
        _forget_shared(each, run=folder, expired=expired, session=session)
    console.event(
        "done", {"destroyed": list(done.files), "holds": done.holds, "at": done.at, "exit": 0}
    )
    return 0


def _say_holders(holds: tuple[str, ...] | None, session: Session) -> None:
    """Name the files that stay and hold something of the records."""
    if holds is None:
        session.console.warn("not searched for what is left: the evidence has another key")
    for name in holds or ():
        session.console.line("holds", f"{name} still names a fact, a text or a subject")


def _forget_answers(folder: Path, session: Session) -> None:
    """Destroy what the user's cache holds about the forget records of a folder."""
    from expunge.evidence.answer_cache import answers_folder, destroy_answers
    from expunge.provenance.destroy import forget_fingerprints

    if places := destroy_answers(answers_folder(), forget_fingerprints(folder)):
        session.console.line("cache", f"{places} sets of answers destroyed; runs ask again")


def _forget_shared(folder: Path, *, run: Path, expired: bool, session: Session) -> None:
    """Destroy a folder that a run shared with others, unless one of them still keeps it.

    One that lies elsewhere may be that of somebody else: the settings are a file like any other.
    """
    from expunge.provenance.destroy import destroy_shared, is_own

    if not is_own(folder, run):
        left = f"{folder} is left: it lies outside the run; expunge evidence destroy {folder}"
        session.console.line("shared", left)
        return
    gone = destroy_shared(folder, only_expired=expired, now=datetime.now(UTC))
    told = "kept for other runs" if gone is None else f"{gone} files destroyed; runs make them anew"
    session.console.line("shared", f"{folder}: {told}")


def _matrix(action: str, folder: Path, *, expired: bool, session: Session) -> int:
    """Do the same with the folder of a benchmark or a search."""
    from expunge.provenance.destroy import destroy_matrix
    from expunge.provenance.keys import key_path, operator_key
    from expunge.provenance.signature import signing_key

    console = session.console
    if action == "show":
        count = sum(path.is_file() for path in folder.rglob("evidence/*"))
        console.line("evidence", f"{count} files of all runs")
        console.event("done", {"files": count, "exit": 0})
        return 0
    count, holds = destroy_matrix(
        folder,
        key=operator_key(key_path(), run=folder),
        only_expired=expired,
        now=datetime.now(UTC),
        signing=signing_key(folder),
    )
    console.line("destroyed", f"{count} files of {folder}")
    console.line("kept", "rows, leaderboard, and of each run scores, verdict and manifest")
    _say_holders(holds, session)
    _forget_answers(folder, session)
    console.event("done", {"destroyed": count, "holds": holds, "exit": 0})
    return 0


def _references(action: str, folder: Path, *, expired: bool, session: Session) -> int:
    """Do the same with values of records that runs share; they bear no date."""
    del expired
    from expunge.provenance.destroy import destroy_references

    console = session.console
    if action == "show":
        count = sum(path.is_file() for path in folder.rglob("*"))
        console.line("values", f"{count} files, shared by runs")
    else:
        count = destroy_references(folder)
        console.line("destroyed", f"{count} files of {folder}; runs that need them make them again")
    console.event("done", {"files": count, "exit": 0})
    return 0


def _shared(action: str, folder: Path, *, expired: bool, session: Session) -> int:
    """Do the same with the folder that attacks of many runs share."""
    from expunge.evidence.encryption import kept_until
    from expunge.provenance.destroy import destroy_store, kept

    console = session.console
    if action == "destroy":
        count = destroy_store(folder, only_expired=expired, now=datetime.now(UTC))
        console.line("destroyed", f"{count} files of {folder}; runs that need them make them again")
        console.event("done", {"destroyed": count, "exit": 0})
        return 0
    until = kept_until(folder).isoformat()
    count = kept(folder)
    console.line("evidence", f"{count} files, shared by runs; kept until {until}")
    console.event("done", {"files": count, "until": until, "exit": 0})
    return 0
