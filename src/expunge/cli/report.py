"""`expunge report`: write the report of a run again."""

import webbrowser
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.options import OpenPage
from expunge.cli.session import Given
from expunge.cli.settings import run_folder


def report(
    run: Annotated[Path, Parameter(help="run folder")],
    /,
    *,
    redact: Annotated[
        bool | None,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_REPORT_REDACT",
            help="mask personal text, or show it; default as in the run, anything else is written"
            " aside",
        ),
    ] = None,
    open_: OpenPage = False,
    session: Given,
) -> int:
    """Write report.html of a run again, from its stored evidence."""
    folder = run_folder(run)

    from expunge.provenance.keys import existing_key
    from expunge.reporting.build import build_report

    page = build_report(folder, redact=redact, key=existing_key(folder))
    session.console.line("wrote", str(page))
    session.console.event("done", {"report": page, "exit": 0})
    if open_:
        webbrowser.open(page.resolve().as_uri())
    return 0
