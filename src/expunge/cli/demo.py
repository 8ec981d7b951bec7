"""`expunge demo`: forget something real, on this machine, in minutes."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.session import Given
from expunge.cli.settings import conclude


def demo(
    *,
    out: Annotated[
        Path | None,
        Parameter(env_var="EXPUNGE_OUT", show_default=False, help="run folder, exactly this one"),
    ] = None,
    short: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            env_var="EXPUNGE_SHORT",
            help="fewer steps, to see that all works; the verdict means little",
        ),
    ] = False,
    session: Given,
) -> int:
    """Forget a made-up person on a small real model, audit it, and write the report."""
    console = session.begin()

    from expunge.demo.run import demo as run_demo

    return conclude(run_demo(out=out, short=short, console=console), console=console, gate=False)
