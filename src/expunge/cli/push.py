"""`expunge push`: upload what may be published of a run to the Hub."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.session import Given
from expunge.cli.settings import run_folder
from expunge.cli.terminal import confirmed
from expunge.errors import UsageError

_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def push(
    run: Annotated[Path, Parameter(help="run folder")],
    repository: Annotated[str, Parameter(help="owner/name on the Hub")],
    /,
    *,
    public: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            env_var="EXPUNGE_PUBLIC",
            help="a new repository can be seen by everyone; without it, by you alone",
        ),
    ] = False,
    yes: Annotated[
        bool,
        Parameter(
            negative="", show_default=False, env_var="EXPUNGE_YES", help="upload without asking"
        ),
    ] = False,
    session: Given,
) -> int:
    """Upload the model folder of a run: model, card, masked report, manifest. Evidence stays here.

    What will go is listed first. A folder that is not what was audited is refused.
    """
    folder = run_folder(run)
    console = session.begin()

    from expunge.pipeline.push import prepare_upload, send

    upload = prepare_upload(folder, repository)
    console.line("push", f"{len(upload.files)} files, {_size(upload.size)}, to {repository}")
    for name, size in upload.files:
        console.note(f"{_size(size):>9}  {name}")
    console.line("verdict", f"{upload.ruling}, which the card states")
    for warning in upload.warnings:
        console.warn(warning)
    if not yes and not confirmed(f"upload this to {repository}?"):
        raise UsageError(
            "not-confirmed",
            what="nothing was uploaded",
            why="nobody said yes",
            fix="say y, or give --yes",
        )
    address = send(upload, private=not public)
    console.line("pushed", address)
    console.event("pushed", {"address": address, "files": [name for name, _ in upload.files]})
    return 0


def _size(count: int) -> str:
    return next(
        (f"{count / unit:.1f} {name}" for unit, name in _UNITS if count >= unit), f"{count} B"
    )
