"""TensorBoard: files on this machine. `TENSORBOARD_LOGGING_DIR` names the folder."""

import os
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from expunge.trackers.base import TrackedRun


class TensorBoardTracker:
    """Writes scalars to `tensorboard/RUN`, or below the folder that the variable names."""

    def __init__(self, run: TrackedRun) -> None:
        root = os.environ.get("TENSORBOARD_LOGGING_DIR", "tensorboard")
        self._writer = SummaryWriter(str(Path(root) / run.name))
        rows = "".join(f"| {key} | {value} |\n" for key, value in run.settings.items())
        self._writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}")

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write the numbers of a step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self, summary: Mapping[str, float], verdict: str) -> None:
        """Write gates and verdict, and close the file."""
        self.log(summary, 0)
        self._writer.add_text("verdict", verdict)
        self._writer.close()
