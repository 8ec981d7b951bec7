"""What every command is given: the console, and whether it may use the network."""

import logging
import os
import warnings
from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from expunge.cli.terminal import human_console, json_console, quiet_console
from expunge.utils.console import Console, SilentConsole
from expunge.utils.system import cores, headline, keep_freed_memory, limits

_SCREENS = {"human": human_console, "json": json_console, "quiet": quiet_console}

# Read by the libraries when they are first imported, which is after this.
_QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DATASETS_VERBOSITY": "error",
}
_CHATTY = ("torchao", "bitsandbytes", "torch.utils._pytree")
"""Loggers that warn on import about kernels which this machine could not use anyway."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One run of the command line."""

    console: Console
    offline: bool
    verbose: bool

    @classmethod
    def start(
        cls, format: Literal["human", "json", "quiet"], *, offline: bool, verbose: bool
    ) -> "Session":
        """Open the screen that `--format` asks for, and close the network where asked.

        Of several processes that torchrun has started only the first one has a screen.
        """
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"  # it tells a third party the data set's name
        if offline:
            os.environ["HF_HUB_OFFLINE"] = "1"
        console = _SCREENS[format]() if leads() else SilentConsole()
        return cls(console=console, offline=offline, verbose=verbose)

    def begin(self) -> Console:
        """Say what runs where, and silence the libraries: for commands that load a model."""
        cap_threads()
        keep_freed_memory()
        quiet_libraries(verbose=self.verbose)
        self.console.line("expunge", headline(offline=self.offline))
        return self.console


Given = Annotated[Session, Parameter(parse=False)]
"""Type of the parameter by which a command receives its session; never read from the words."""


def leads() -> bool:
    """Return whether this is the only process, or the first of those that torchrun has started."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def cap_threads() -> None:
    """Let libraries start no more threads than a container's quota has cores for.

    They count the cores of the whole machine, and wait for each other. OMP_NUM_THREADS is left as
    it is where the user has set it. Read by the libraries, and by child processes, when imported.
    """
    if limits().cores is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(cores()))


def quiet_libraries(*, verbose: bool) -> None:
    """Silence the progress bars, log lines and warnings of other libraries unless `verbose`.

    Only the command line does this. A variable that the user has set is left as it is.
    """
    if verbose:
        return
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
