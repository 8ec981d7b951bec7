"""`expunge chain` and `expunge rollback`: requests in order, and back to an earlier model."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from expunge.cli.ledger_flags import EnterInto
from expunge.cli.options import COMMAND_VARIABLES
from expunge.cli.session import Given, Session
from expunge.errors import GateError

if TYPE_CHECKING:
    from expunge.config.queue import Queue

_RUNS = Path("runs")


def chain(
    queue: Annotated[Path, Parameter(help="TOML file: settings, and a table [[queue]] a request")],
    /,
    *,
    out: Annotated[
        Path | None,
        Parameter(
            env_var="EXPUNGE_OUT",
            show_default=False,
            help="folder of the chain; default runs/chain-NAME, by the name of the queue",
        ),
    ] = None,
    check: Annotated[
        str,
        Parameter(
            env_var="EXPUNGE_CHECK",
            show_default=False,
            help="ask this model about every finished request, train nothing; exit with 3 if one"
            " is back",
        ),
    ] = "",
    ledger: EnterInto = None,
    session: Given,
) -> int:
    """Forget request after request, each from the last model, and ask earlier ones again.

    Exits with 3 when an earlier request came back or too much was lost. The same command goes on
    where a chain was stopped, and takes up requests that were added to the queue.
    """
    console = session.begin()

    from expunge.config.queue import read_queue
    from expunge.models.reference import require_model
    from expunge.pipeline.early_checks import check_settings

    given = {k: v for k, v in os.environ.items() if k not in COMMAND_VARIABLES}
    requests = read_queue(queue, environ=given, offline=session.offline)
    for settings in requests.requests:
        check_settings(settings)
    folder = out or _RUNS / f"chain-{queue.stem}"
    if check:
        require_model(check, offline=session.offline)
        return _check(requests, folder, check, session)

    from expunge.pipeline.bookkeeping import enter_chain, require_ledger
    from expunge.pipeline.chain import chain as work_on
    from expunge.pipeline.chain_state import read_state

    if ledger is not None:
        require_ledger(ledger)
    try:
        done = work_on(requests, out=folder, console=console)
    finally:
        if ledger is not None and (state := read_state(folder)) is not None:
            count = enter_chain(ledger, folder, state)
            console.line("ledger", f"{ledger}   {count} runs entered")
    console.event("done", {"folder": done.folder, "model": done.model, "exit": 0})
    return 0


def _check(requests: "Queue", folder: Path, model: str, session: Session) -> int:
    """Ask a model about every finished request of a chain."""
    from expunge.pipeline.chain import check_chain

    found = check_chain(requests, out=folder, model=model, console=session.console)
    failed = bool(found.alarms)
    session.console.event("done", {"alarms": list(found.alarms), "exit": 3 if failed else 0})
    if failed:
        raise GateError(
            "chain-red",
            what=f"{model}: {found.alarms[0]}",
            why=f"{len(found.alarms)} alarms; the chain in {folder} erased this",
            fix="do not use this model; make it anew from the last model of the chain",
        )
    return 0


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
