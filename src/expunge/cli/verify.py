"""`expunge verify`: does a run folder still say what it said?"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.session import Given
from expunge.cli.settings import run_folder
from expunge.errors import GateError


def verify(run: Annotated[Path, Parameter(help="run folder")], /, *, session: Given) -> int:
    """Check every file of a run against its manifest, and every number against the evidence."""
    console = session.console
    folder = run_folder(run)

    from expunge.provenance.keys import existing_key
    from expunge.provenance.verify import verify as verify_run

    found = verify_run(folder, key=existing_key(folder))
    for note in found.notes:
        console.note(note)
    for problem in found.problems:
        console.line("problem", f"{problem.path}: {problem.what}")
        console.event("problem", {"path": problem.path, "what": problem.what})
    ended = {"ok": found.ok, "digest": found.digest, "exit": 0 if found.ok else 3}
    console.event("done", {**ended, "notes": list(found.notes)})
    if not found.ok:
        raise GateError(
            "not-verified",
            what=f"{len(found.problems)} problem(s) in {run}",
            why="a file or a number is not what the manifest recorded",
            fix="do not rely on this run; restore it from a copy, or run it again",
        )
    console.line("verified", f"{found.files} files, {found.scores} numbers computed again")
    console.line("digest", found.digest)
    return 0
