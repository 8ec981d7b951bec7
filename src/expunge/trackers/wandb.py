"""Weights & Biases. `WANDB_PROJECT`, `WANDB_ENTITY` and `WANDB_MODE` are its own variables."""

import os
from collections.abc import Mapping
from importlib import import_module

from expunge.trackers.base import TrackedRun


class WandbTracker:
    """Logs to the project `expunge`, or that of the variable; offline to the folder `wandb`.

    What it would collect by itself stays here: console lines, command, code, host name.
    """

    def __init__(self, run: TrackedRun) -> None:
        wandb = import_module("wandb")
        quiet = wandb.Settings(
            console="off", silent=True, disable_git=True, save_code=False, x_disable_meta=True
        )
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "expunge"),
            id=run.name,
            name=run.name,
            resume="allow",
            config=dict(run.settings),
            mode="offline" if run.offline else None,
            settings=quiet,
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send the numbers of a step."""
        self._run.log(dict(values), step=step)

    def finish(self, summary: Mapping[str, float], verdict: str) -> None:
        """Set gates and verdict as the summary, and close the run."""
        self._run.summary.update({**summary, "verdict": verdict})
        self._run.finish(exit_code=int(verdict == "stopped"))
