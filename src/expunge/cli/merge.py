"""`expunge merge`: from an adapter to full weights."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.session import Given


def merge(
    adapter: Annotated[
        str, Parameter(help="run folder with an adapter, adapter folder, or BASE+ADAPTER")
    ],
    /,
    *,
    out: Annotated[Path, Parameter(env_var="EXPUNGE_OUT", help="folder of the merged model")],
    session: Given,
) -> int:
    """Merge an adapter into the weights of its base, and write a loadable model.

    The adapter may come from `forget --adapter`, from `train`, or from PEFT.
    """
    from expunge.models.reference import require_adapter

    require_adapter(adapter)
    console = session.begin()

    from expunge.pipeline.merge import merge as merge_adapter

    folder = merge_adapter(adapter, out=out, offline=session.offline, console=console)
    console.event("done", {"folder": folder, "exit": 0})
    return 0
