"""What a tracker is given, and the screen that feeds it without ever holding up a run.

A tracker works in a thread of its own. One that is slow, has no network or breaks is warned of
once; the run goes on, and its folder holds every number in any case.
"""

import queue
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from expunge.errors import ExpungeError, UsageError
from expunge.utils.console import ProgressMeter, Screen

_PATIENCE = 60.0
"""Seconds that the end of a run waits for its tracker."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackedRun:
    """What a tracker is told of a run at its beginning."""

    name: str
    """Method and run id: the same when a run is resumed."""
    settings: Mapping[str, str | int | float | bool] = field(
        default_factory=dict[str, str | int | float | bool]
    )
    """By key path; without paths and names of models and data."""
    offline: bool = False
    """Whether the network is closed."""
    first_step: int = 0
    """Steps that were done before: of a training that is resumed."""


class Tracker(Protocol):
    """One run at a tracker."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send the numbers of a step."""
        ...

    def finish(self, summary: Mapping[str, float], verdict: str) -> None:
        """Send what the run ended with, and close it.

        Args:
            summary: Values of the gates; empty where the run did not end well.
            verdict: The ruling, or `stopped`, or empty where nothing is judged.
        """
        ...


class TrackerScreen(Screen):
    """A screen that hands the numbers of every step to a tracker.

    Args:
        name: Name of the tracker, for warnings.
        start: Opens the run there; called in the thread of the tracker.
        run: The run.
        warn: Says that the tracker failed.
        patience: Seconds to wait at the end.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[TrackedRun], Tracker],
        run: TrackedRun,
        warn: Callable[[str], None],
        *,
        patience: float = _PATIENCE,
    ) -> None:
        self._name = name
        self._start = start
        self._run = run
        self._warn = warn
        self._patience = patience
        self._before = run.first_step
        self._steps: queue.SimpleQueue[tuple[Mapping[str, float], int] | None] = queue.SimpleQueue()
        self._end: tuple[Mapping[str, float], str] = ({}, "stopped")
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def moved(self, meter: ProgressMeter) -> None:
        """Hand on the numbers of a step, if it has any."""
        if meter.values:
            values = {plain_name(f"{meter.label}/{name}"): v for name, v in meter.values.items()}
            self._steps.put((values, self._before + meter.done))

    def end(self, meter: ProgressMeter) -> None:
        """Count on from here: a chain trains more than once."""
        if meter.values:
            self._before += meter.done

    def conclude(self, summary: Mapping[str, float], verdict: str) -> None:
        """Set what the run ended with; sent by `close`."""
        self._end = ({plain_name(name): value for name, value in summary.items()}, verdict)

    def close(self) -> None:
        """Send what is left, and wait for it, but not long."""
        self._steps.put(None)
        self._thread.join(self._patience)
        if self._thread.is_alive():
            self._say(f"it has not answered for {self._patience:.0f} s")

    def _work(self) -> None:
        try:
            tracker = self._start(self._run)
            while (step := self._steps.get()) is not None:
                tracker.log(*step)
            tracker.finish(*self._end)
        except ExpungeError as error:
            self._say(f"{error.what}: {error.why}; {error.fix}")
        except Exception as error:  # whatever a service says, the run goes on
            text = " ".join(str(error).split())[:200]
            self._say(f"{type(error).__name__}: {text}" if text else type(error).__name__)

    def _say(self, why: str) -> None:
        self._warn(
            f"{self._name} does not have all numbers of this run ({why}); the run goes on, and its"
            " folder has them"
        )


def plain_name(name: str) -> str:
    """Return a name of a number that every tracker accepts.

    Example:
        >>> plain_name("Robustness/leak (int4)")
        'Robustness/leak _int4_'
    """
    return re.sub(r"[^\w\-./ ]", "_", name)


def needs_network(tracker: str, where: str) -> UsageError:
    """Return the error of a tracker that is elsewhere while the network is closed."""
    return UsageError(
        "tracker-offline",
        what=f"{tracker} is at {where}",
        why="the network is closed for this run",
        fix=f"run without --offline, or let {tracker} write to this machine",
    )
