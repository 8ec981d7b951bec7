"""`expunge view`: look at runs, attacks, leaderboards and ledgers in the browser, here."""

import socket
import threading
import webbrowser
from importlib import import_module
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.options import OpenPage
from expunge.cli.session import Given
from expunge.errors import InputError, ResourceError, UsageError
from expunge.utils.io import did_you_mean

_LOCAL = "127.0.0.1"


def view(
    folder: Annotated[Path, Parameter(help="folder of runs and benches; default: runs")] = Path(
        "runs"
    ),
    /,
    *,
    port: Annotated[
        int, Parameter(help="where to listen; 0: any free port", env_var="EXPUNGE_PORT")
    ] = 7820,
    open_: OpenPage = False,
    session: Given,
) -> int:
    """Show runs, attacks, leaderboards and ledgers as pages; nothing is written or sent."""
    console = session.console
    if not folder.is_dir():
        raise InputError(
            "no-folder",
            what=f"{folder} is a file" if folder.exists() else f"there is no folder {folder}",
            why="runs lie in the folder `runs` unless --out named another",
            fix=did_you_mean(str(folder), "name the folder that holds your runs"),
        )
    _require_extra()
    import uvicorn

    from expunge.viewer.app import make_app, warm
    from expunge.viewer.library import RunLibrary

    library = RunLibrary(folder.resolve())
    runs, boards, ledgers = library.look()
    if not runs and not boards and not ledgers:
        raise InputError(
            "no-runs",
            what=f"{folder} holds no run, no leaderboard and no ledger",
            why="a run is what `expunge forget` or `expunge audit` wrote",
            fix="name the folder that holds your runs, or make one: expunge demo",
        )
    with listening(port) as listener:
        chosen = listener.getsockname()[1]
        address = f"http://{_LOCAL}:{chosen}/"
        app = make_app(library, port=chosen)
        threading.Thread(target=warm, daemon=True).start()
        tables = f"{len(boards)} leaderboards, {len(ledgers)} ledgers"
        console.line("view", f"{len(runs)} runs, {tables}")
        console.line("open", f"{address}   Ctrl-C ends it")
        console.event("view", {"address": address, "runs": len(runs)})
        if open_:
            webbrowser.open(address)
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            console.line("closed", "nothing was changed")
    return 0


def _require_extra() -> None:
    """Refuse to begin without the packages that serve the pages.

    Raises:
        UsageError: One of them is not installed.
    """
    for name in ("starlette", "uvicorn"):
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            raise UsageError(
                "no-viewer",
                what=f"{name} is not installed",
                why="the pages are served by starlette and uvicorn, which no other command needs",
                fix="pip install 'expunge[view]'",
            ) from error


def listening(port: int) -> socket.socket:
    """Return a socket of this machine alone.

    Raises:
        ResourceError: The port is in use or may not be used.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_LOCAL, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ResourceError(
            "port-in-use",
            what=f"cannot listen on port {port}",
            why=_why_not(error),
            fix="choose another: --port 0 takes any that is free",
        ) from error
    return listener


def _why_not(error: OSError | OverflowError) -> str:
    if isinstance(error, OverflowError):
        return "a port is a number from 0 to 65535"
    if isinstance(error, PermissionError):
        return "this user may not; ports below 1024 belong to the system"
    return "another program uses it, perhaps an `expunge view` that still runs"
