"""`expunge rollback`: a chain goes back to an earlier model."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.session import Given


def rollback(
    folder: Annotated[Path, Parameter(help="folder of a chain")],
    /,
    *,
    to: Annotated[
        int,
        Parameter(
            env_var="EXPUNGE_ROLLBACK_TO",
            help="number of the request after which the model is wanted; 0: the first original",
        ),
    ],
    session: Given,
) -> int:
    """Return a chain to an earlier model, bit for bit; later requests are open again."""
    console = session.begin()

    from expunge.pipeline.chain_state import require_state
    from expunge.pipeline.rollback import rollback as roll_back

    require_state(folder)
    done = roll_back(folder, to=to, console=console)
    console.event(
        "done", {"folder": folder, "model": done.model, "digest": done.state.model, "exit": 0}
    )
    return 0
