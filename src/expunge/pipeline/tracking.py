"""A run at an experiment tracker: opened with it, told of every step, closed with its verdict."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial

from expunge.config.settings import Settings
from expunge.evals.results import Results
from expunge.preparation.prepare import stage_names
from expunge.trackers import open_tracker, require_tracker
from expunge.trackers.base import TrackedRun, TrackerScreen
from expunge.utils.console import Console

Switch = int | float | bool


@contextmanager
def tracked(
    tracker: str, run: TrackedRun, console: Console
) -> Generator[Callable[[Mapping[str, float], str], None]]:
    """Send the numbers of a run to a tracker, for as long as the block runs.

    Args:
        tracker: Its name; `none` sends nothing.
        run: The run.
        console: Whose steps are sent, and where a tracker that fails is warned of.

    Yields:
        A function that sets what the run ended with: values by name, and the verdict.

    Raises:
        UsageError: The tracker is not installed.
    """
    if tracker == "none":
        yield lambda summary, verdict: None
        return
    require_tracker(tracker)
    screen = TrackerScreen(tracker, partial(open_tracker, tracker), run, console.warn)
    try:
        with console.also(screen):
            yield screen.conclude
    finally:
        screen.close()


def run_to_track(settings: Settings, run_id: str, *, kind: str) -> TrackedRun:
    """Return what a tracker is told of a run: numbers and names of settings, no data.

    Args:
        settings: The resolved settings.
        run_id: The eight hex digits of the run.
        kind: `forget` or `audit`.
    """
    method = "-".join(stage_names(settings)) if kind == "forget" else kind
    told: dict[str, str | Switch] = {
        "goal": settings.request.goal,
        "audit.level": settings.audit.level,
        "precision": settings.precision,
    }
    if kind == "forget":
        told |= {"method": method, **scalars("train", settings.train.model_dump(mode="json"))}
        told |= scalars("method", settings.method.parameters)
    return TrackedRun(name=f"{method}-{run_id}", settings=told, offline=settings.offline)


def scalars(table: str, values: Mapping[str, object]) -> dict[str, Switch]:
    """Return the values of a table that are numbers or switches, by key path; no text."""
    return {f"{table}.{key}": value for key, value in values.items() if isinstance(value, Switch)}


def summary_of(results: Results) -> dict[str, float]:
    """Return the value of every gate that has one, by axis and name."""
    return {
        f"{gate.axis.value}/{gate.name}": gate.value
        for gate in results.gates
        if gate.value is not None
    }
