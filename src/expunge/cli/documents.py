"""What the commands that write documents share: where they write, and when they ask."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.terminal import confirmed
from expunge.errors import UsageError

Out = Annotated[
    Path | None,
    Parameter(
        show_default=False,
        env_var="EXPUNGE_OUT",
        help="the file; .md, .html, .pdf or .json chooses the format; default beside the run",
    ),
]
Replace = Annotated[
    bool,
    Parameter(
        negative="",
        show_default=False,
        env_var="EXPUNGE_YES",
        help="replace a file that is there without asking",
    ),
]


def free(path: Path, *, yes: bool) -> Path:
    """Return a file that may be written: a new one, or one that may be replaced.

    Raises:
        UsageError: It is a folder; or it is there, and nobody said yes.
    """
    if path.is_dir():
        raise UsageError(
            "folder-not-file",
            what=f"{path} is a folder",
            why="a document is one file",
            fix=f"name a file in it, for example {path / 'letter.pdf'}",
        )
    if path.exists() and not yes and not confirmed(f"replace {path}?"):
        raise UsageError(
            "file-exists",
            what=f"{path} exists; nothing was written",
            why="what was sent or signed could be lost",
            fix="name another file with --out, or replace it with --yes",
        )
    return path
