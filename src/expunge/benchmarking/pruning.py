"""Pruning: a run whose training already looks hopeless ends before its audit, the dearer part.

Training reports the watchdog's readings. From them come two cheap proxies:

    progress = (nll - nll at the start) / (nll of unseen text - nll at the start), in [0, 1]
    kept     = probability of retained answers / that at the start, at most 1

A run is hopeless when a finished one was clearly better on both. The proxies never rank or choose:
only the audit does.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from expunge.benchmarking.result import BenchResult
from expunge.utils.console import Screen

AHEAD = {"progress": 0.1, "kept": 0.02}
"""By how much another run must be better on each proxy."""
FINISHED = 3
"""Runs that must be finished before one is pruned."""


class Pruned(Exception):  # noqa: N818 - a run that is spared its audit is not an error
    """A run that was ended before its audit."""


class Pruner(Screen):
    """A console that reads the events of a run and shows nothing.

    Args:
        rows: Rows of the matrix so far; empty to let every run pass.
        begun: Called once the run has its folder and before the first model is evaluated.
    """

    def __init__(self, rows: Iterable[BenchResult], *, begun: Callable[[], None]) -> None:
        self._begun = begun
        self._others = [row for row in rows if row.status == "done" and row.proxies]
        self.proxies: dict[str, float] = {}

    def event(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Copy shared evidence into a run that begins; read the proxies of a finished training.

        Raises:
            Pruned: A finished run was clearly better on both.
        """
        if kind in ("plan", "audit"):
            self._begun()
        if kind != "trained":
            return
        self.proxies = proxies(payload)
        if self.proxies and len(self._others) >= FINISHED:
            ahead = next((row for row in self._others if better(row.proxies, self.proxies)), None)
            if ahead is not None:
                shown = ", ".join(f"{name} {value:.2f}" for name, value in self.proxies.items())
                raise Pruned(f"after training ({shown}) {ahead.cell.id} was ahead on both")


def proxies(payload: Mapping[str, Any]) -> dict[str, float]:
    """Return progress and kept; empty where training took fewer than two readings.

    Args:
        payload: The `trained` event of `expunge.forget`.
    """
    readings = payload["readings"]
    if len(readings) < 2:
        return {}
    first, last = readings[0], readings[-1]
    room = payload["unseen_nll"] - first["forget_nll"]
    moved = last["forget_nll"] - first["forget_nll"]
    before = first["retain_probability"]
    return {
        "progress": 1.0 if room <= 0 else min(1.0, max(0.0, moved / room)),
        "kept": 1.0 if before <= 0 else min(1.0, last["retain_probability"] / before),
    }


def better(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Tell whether one run is clearly ahead of another on both proxies."""
    return all(one[name] >= other[name] + margin for name, margin in AHEAD.items())
