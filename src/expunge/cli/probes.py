"""`expunge probes`: the questions of an audit for lm-eval."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.audit import held_against, run_of
from expunge.cli.options import RequestFlags
from expunge.cli.session import Given
from expunge.cli.settings import folder_of
from expunge.errors import UsageError


def probes(
    source: Annotated[str, Parameter(help="run folder, or request file (.toml)")],
    /,
    *,
    request: RequestFlags | None = None,
    session: Given,
) -> int:
    """Write the questions of an audit as tasks of lm-eval, for any model that lm-eval loads.

    lm_eval run --include_path FOLDER --tasks expunge asks them. No model is loaded here.
    """
    console = session.begin()
    request = request or RequestFlags()
    if not source.endswith(".toml") and run_of((source,)) is None:
        raise UsageError(
            "no-request",
            what=f"{source} is neither a run folder nor a request file",
            why="what is asked follows from a request: its sets, its goal and its model",
            fix="write one with expunge init, or give a run such as runs/latest",
        )
    settings = held_against(session, (source,), original=None, request=request)

    from expunge.pipeline.probes import probes as write_probes

    group = write_probes(
        settings,
        out=folder_of(request) or Path("probes"),
        run=run_of((source,)),
        console=console,
    )
    console.event("done", {"tasks": dict(group.tasks), "left_out": group.left_out, "exit": 0})
    return 0
