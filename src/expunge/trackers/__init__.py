"""Experiment trackers: the numbers of a run, as they come, where a team already looks at its runs.

One small file a tracker, each behind an extra of the same name. Numbers and names of settings go
there; record texts, paths and names of models do not.
"""

from importlib import import_module
from importlib.util import find_spec

from expunge.errors import UsageError
from expunge.trackers.base import TrackedRun, Tracker

_CLASSES = {
    "tensorboard": "TensorBoardTracker",
    "wandb": "WandbTracker",
    "mlflow": "MlflowTracker",
    "trackio": "TrackioTracker",
}
"""The class of each tracker by its name, which is that of its module, package and extra."""


def require_tracker(name: str) -> None:
    """Check that the package of a tracker is there; `none` needs none.

    Raises:
        UsageError: It is not installed.
    """
    if name == "none":
        return
    found = find_spec(name)
    if found is None or found.origin is None:  # a folder of that name is no package
        raise UsageError(
            "no-tracker",
            what=f"{name} is not installed",
            why="it is an extra: a run keeps its numbers in its own folder without it",
            fix=f"pip install 'expunge[{name}]'",
        )


def open_tracker(name: str, run: TrackedRun) -> Tracker:
    """Begin to track a run.

    Args:
        name: A tracker that is installed.
        run: What the tracker is told of the run at its beginning.

    Raises:
        UsageError: The tracker would need the network, which is closed.
    """
    opened: Tracker = vars(import_module(f"{__name__}.{name}"))[_CLASSES[name]](run)
    return opened
