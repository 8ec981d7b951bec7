"""`expunge merge`: from an adapter to full weights."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.session import Given
from expunge.cli.settings import run_folder


def merge(
    run: Annotated[Path, Parameter(help="run folder made with --adapter")],
    /,
    *,
    out: Annotated[Path, Parameter(env_var="EXPUNGE_OUT", help="folder of the merged model")],
    session: Given,
) -> int:
    """Merge the adapter of a run into the weights, and write a loadable model."""
    console = session.begin()
    source = run_folder(run)

    from expunge.pipeline.merge import merge as merge_run

    folder = merge_run(source, out=out, console=console)
    console.event("done", {"folder": folder, "exit": 0})
    return 0
