"""trackio: a database on this machine. `TRACKIO_PROJECT` and `TRACKIO_SPACE_ID` name others."""

import contextlib
import io
import os
from collections.abc import Mapping
from importlib import import_module

from expunge.trackers.base import TrackedRun, needs_network


class TrackioTracker:
    """Logs to the project `expunge`, or that of the variable."""

    def __init__(self, run: TrackedRun) -> None:
        space = os.environ.get("TRACKIO_SPACE_ID")
        if run.offline and space:
            raise needs_network("trackio", f"the Space {space}")
        trackio = import_module("trackio")
        with contextlib.redirect_stdout(io.StringIO()):  # it greets
            self._run = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", "expunge"),
                name=run.name,
                config=dict(run.settings),
                resume="allow",
            )

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send the numbers of a step."""
        self._run.log(dict(values), step=step)

    def finish(self, summary: Mapping[str, float], verdict: str) -> None:
        """Send gates and verdict, and close the run."""
        self._run.log({**summary, "verdict": verdict})
        with contextlib.redirect_stdout(io.StringIO()):
            self._run.finish()
