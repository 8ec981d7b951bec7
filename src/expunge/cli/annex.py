"""`expunge annex`: the answers for an authority."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.documents import Out, Replace, free
from expunge.cli.session import Given
from expunge.cli.settings import run_folder


def annex(
    run: Annotated[Path, Parameter(help="run folder")],
    /,
    *,
    declare: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            show_default=False,
            consume_multiple=False,
            env_var="EXPUNGE_DECLARE",
            help="FIELD=TEXT: what only you know, for example release_context=internal; repeatable",
        ),
    ] = (),
    out: Out = None,
    yes: Replace = False,
    session: Given,
) -> int:
    """Write the annex for an authority: attacks with their status, and forty questions answered.

    Every question has its source. What the run does not know is said, or declared by you.
    """
    folder = run_folder(run)

    from expunge.ledger.documents.annex import annex as write
    from expunge.ledger.documents.letter import default_path
    from expunge.ledger.documents.sheet import require_format

    path = out or default_path(folder, "annex.md")
    require_format(path)
    write(folder, out=free(path, yes=yes), declare=declare)
    session.console.line("wrote", str(path))
    session.console.event("done", {"annex": path, "exit": 0})
    return 0
