"""MLflow. `MLFLOW_TRACKING_URI` and `MLFLOW_EXPERIMENT_NAME` are its own variables."""

import os
import time
from collections.abc import Mapping
from importlib import import_module

from expunge.trackers.base import TrackedRun, needs_network

_RUN = "expunge.run"
"""Tag by which a resumed run is found again."""


class MlflowTracker:
    """Logs to the experiment `expunge`, or that of the variable; never sends its own usage data."""

    def __init__(self, run: TrackedRun) -> None:
        # Read by MLflow when it is imported; what the user has set is left as it is.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        mlflow = import_module("mlflow")
        where = mlflow.get_tracking_uri()
        if run.offline and "://" in where and not where.startswith(("file:", "sqlite:")):
            raise needs_network("mlflow", where)
        self._metric = import_module("mlflow.entities").Metric
        self._client = mlflow.MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "expunge")
        known = self._client.get_experiment_by_name(name)
        place = self._client.create_experiment(name) if known is None else known.experiment_id
        begun = self._client.search_runs([place], f"tags.`{_RUN}` = '{run.name}'")
        self._id: str = begun[0].info.run_id if begun else self._made(place, run)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send the numbers of a step."""
        now = int(time.time() * 1000)
        metrics = [self._metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def finish(self, summary: Mapping[str, float], verdict: str) -> None:
        """Send gates and verdict, and close the run."""
        if summary:
            self.log(summary, 0)
        self._client.set_tag(self._id, "verdict", verdict)
        self._client.set_terminated(self._id, "KILLED" if verdict == "stopped" else "FINISHED")

    def _made(self, place: str, run: TrackedRun) -> str:
        made = self._client.create_run(place, run_name=run.name, tags={_RUN: run.name})
        identity: str = made.info.run_id
        for key, value in run.settings.items():
            self._client.log_param(identity, key, value)
        return identity
