"""One trial: what is tried, in a place of its own, without a network, and how it ended."""

import contextlib
import io
import os
import signal
import socket
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from expunge.cli.main import main

PATIENCE = 60
"""Seconds of computing after which a command hangs; ten times as many where it only waits."""
PRIVATE = ("zanthrovel", "quibblenock", "Wozzlethwaite")
"""Stands in records alone, so that no message may hold it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """Something that is tried."""

    what: str
    kind: str
    """Its line in the table."""
    run: Callable[[], str]
    """Tries it in the current folder; returns how it held, or raises `NotHeldError`."""


class NotHeldError(Exception):
    """What was tried was not held."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The name of the error; empty: none."""
        start = self.err.rfind("error[")
        return "" if start < 0 else self.err[start + 6 :].partition("]")[0]


def _hangs(signum: int, frame: FrameType | None) -> None:
    raise NotHeldError("it does not come to its end")


@contextlib.contextmanager
def alone(place: Path, *, patience: int = PATIENCE) -> Iterator[None]:
    """Work in a folder, without a network.

    The keys are those that lie in the folder; the cache lies beside it.

    Args:
        place: The folder.
        patience: Seconds after which what hangs is ended; 0: never.
    """
    before, environ = Path.cwd(), dict(os.environ)
    opened = socket.socket.connect, socket.getaddrinfo
    asked: list[str] = []

    def closed(*where: object, **_: object) -> None:
        asked.append(str(where))
        raise OSError("no network here")

    socket.socket.connect, socket.getaddrinfo = closed, closed  # type: ignore[assignment]
    os.environ["EXPUNGE_CACHE"] = str(place.parent / "cache")
    os.environ["EXPUNGE_KEY_FILE"] = str(place / "operator.key")
    os.environ["EXPUNGE_SIGNING_KEY"] = str(place / "signing.key")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.chdir(place)
    clocks = {signal.SIGPROF: signal.ITIMER_PROF, signal.SIGALRM: signal.ITIMER_REAL}
    handlers = {number: signal.signal(number, _hangs) for number in clocks}
    signal.setitimer(signal.ITIMER_PROF, patience)
    signal.setitimer(signal.ITIMER_REAL, 10 * patience)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        for number, clock in clocks.items():
            signal.setitimer(clock, 0)
            signal.signal(number, handlers[number])
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environ)
        socket.socket.connect, socket.getaddrinfo = opened  # type: ignore[assignment]
    if asked:
        raise NotHeldError(f"the network was asked for {asked}")


def command(words: list[str]) -> Said:
    """Run `expunge` with these words, in this process."""
    out, err, stdin = io.StringIO(), io.StringIO(), sys.stdin
    sys.stdin = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
    finally:
        sys.stdin = stdin
    return Said(code=code, out=out.getvalue(), err=err.getvalue())


def require_clear(said: Said) -> str:
    """Return the name of the error that a command ended with, which must say what, why and fix.

    Raises:
        NotHeldError: It is a bug, no error, none of three lines, or shows what is private or raw.
    """
    shown = said.out + said.err
    if "Traceback" in shown or said.error == "bug" or said.code == 1:
        raise NotHeldError(f"a bug: {said.err[-300:]}")
    if any(not each.isprintable() and each not in "\n\t\r" for each in shown.replace("\x1b[", "")):
        raise NotHeldError(f"control characters: {shown!a}"[:300])
    if told := [word for word in PRIVATE if word.casefold() in shown.casefold()]:
        raise NotHeldError(f"shows {told} of a record: {shown[-300:]}")
    if said.code == 0:
        return ""
    lines = said.err[said.err.rfind("error[") :].splitlines()
    if [line.split(":")[0] for line in lines[1:]] != ["  why", "  fix"]:
        raise NotHeldError(f"not what, why and fix: {said.err[-300:]}")
    return said.error


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """How the trials of one class ended."""

    tried: Counter[str]
    held: Counter[str]
    how: Counter[str]
    """How they were held, by name."""
    broken: tuple[tuple[str, str], ...]
    """Trials that were not held, and why."""


def tally(
    trials: Iterable[Trial],
    place: Callable[[], Path],
    *,
    told: Callable[[str], object] = lambda line: None,
    patience: int = PATIENCE,
) -> Tally:
    """Try everything, each in a place of its own.

    Args:
        trials: What is tried.
        place: Makes the folder of the next trial.
        patience: Seconds for each; 0: as many as it takes.
        told: Given a line on each trial that was not held, as soon as that is known.
    """
    tried, held, how = Counter[str](), Counter[str](), Counter[str]()
    broken: list[tuple[str, str]] = []
    for trial in trials:
        tried[trial.kind] += 1
        try:
            with alone(place(), patience=patience):
                how[trial.run()] += 1
            held[trial.kind] += 1
        except NotHeldError as error:
            broken.append((f"{trial.kind}: {trial.what}", str(error)))
            told(f"  NOT HELD {trial.kind}: {trial.what!a}\n    {error}")
    return Tally(tried=tried, held=held, how=how, broken=tuple(broken))
