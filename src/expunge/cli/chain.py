"""`expunge chain`: requests in order, each from the last model."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from expunge.cli.ledger_flags import EnterInto
from expunge.cli.options import COMMAND_VARIABLES
from expunge.cli.session import Given, Session
from expunge.errors import GateError, UsageError

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
    orders: Annotated[
        bool,
        Parameter(
            negative="",
            env_var="EXPUNGE_ORDERS",
            show_default=False,
            help="work on the queue in three orders, each in a folder of its own, and report the"
            " spread",
        ),
    ] = False,
    ledger: EnterInto = None,
    session: Given,
) -> int:
    """Forget request after request, each from the last model, and ask earlier ones again.

    Exits with 3 when an earlier request came back or too much was lost. The same command goes on
    where a chain was stopped, and takes up requests that were added to the queue.
    """
    session.begin()

    from expunge.config.queue import read_queue
    from expunge.models.reference import require_model
    from expunge.pipeline.early_checks import check_settings

    given = {k: v for k, v in os.environ.items() if k not in COMMAND_VARIABLES}
    requests = read_queue(queue, environ=given, offline=session.offline)
    for settings in requests.requests:
        check_settings(settings)
    folder = out or _RUNS / f"{'orders' if orders else 'chain'}-{queue.stem}"
    if orders:
        return _orders(requests, folder, session, check=check)
    if check:
        require_model(check, offline=session.offline)
        return _check(requests, folder, check, session)

    return _work_on(requests, folder, ledger, session)


def _work_on(requests: "Queue", folder: Path, ledger: Path | None, session: Session) -> int:
    """Work on every request that is open, and enter what was done."""
    from expunge.pipeline.bookkeeping import enter_chain, require_ledger
    from expunge.pipeline.chain import chain as work_on
    from expunge.pipeline.chain_state import read_state

    if ledger is not None:
        require_ledger(ledger)
    try:
        done = work_on(requests, out=folder, console=session.console)
    finally:
        if ledger is not None and (state := read_state(folder)) is not None:
            count = enter_chain(ledger, folder, state)
            session.console.line("ledger", f"{ledger}   {count} runs entered")
    session.console.event("done", {"folder": done.folder, "model": done.model, "exit": 0})
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


def _orders(requests: "Queue", folder: Path, session: Session, *, check: str) -> int:
    """Work on a queue in three orders."""
    if check:
        raise UsageError(
            "orders-alone",
            what="--orders was given with --check",
            why="it asks the models that it makes, and no other",
            fix="leave one of the two out",
        )

    from expunge.pipeline.chain_orders import compare_orders

    done = compare_orders(requests, out=folder, console=session.console)
    red = [each for each in done.orders if each.alarms]
    session.console.event("done", {"folder": folder, "alarms": len(red), "exit": 3 if red else 0})
    if red:
        raise GateError(
            "order-red",
            what=f"{len(red)} of {len(done.orders)} orders alarmed; {red[0].alarms[0]}",
            why="whether a request comes back must not hang on the order of others",
            fix=f"the numbers of all orders are in {folder}",
        )
    return 0
