"""Routes: the ways from an original to a model without the forget set, and the choice among them.

    retrain   train again without the records, by the recorded recipe       exact, or a fresh model
    rewind    back towards the base model, then distil what must stay       judged by tests
    erase     change the original, which is all there is                    judged by tests

A route that lacks something says what; of the others `auto` takes the first that is worth its time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

RouteName = Literal["retrain", "rewind", "erase"]

WORTH = 4.0
"""How many times as long as erasing another route may take: its claim needs no benefit of doubt."""

CLAIMS = {
    "E4": "equals, byte for byte, a training without the records",
    "E3": "what had seen the records is replaced",
    "E1": "judged by tests against models that never saw the records",
}
"""Claim classes of the routes, in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One way, with its cost."""

    name: RouteName
    claim: str
    """A key of `CLAIMS`."""
    flops: float | None = None
    """Work of the training, which decides: unlike times it is the same whenever it is estimated, so
    that the same command takes the same route. None: unknown."""
    seconds: float | None = None
    """Estimated time of training; None: unknown."""
    peak_gib: float | None = None
    """Estimated memory; None: unknown."""
    needs: str = ""
    """What it would need that was not given; empty: the route is open."""
    detail: str = ""
    """What it would do."""
    by_name: bool = False
    """Whether `auto` leaves it alone, because its results are not measured well enough yet."""

    @property
    def open(self) -> bool:
        """Whether nothing is missing."""
        return not self.needs

    def text(self) -> str:
        """Return the route as a line of the plan's table."""
        time = "" if self.seconds is None else _duration(self.seconds)
        memory = "" if self.peak_gib is None else f"{self.peak_gib:.1f} GiB"
        rest = f"needs {self.needs}" if self.needs else self.detail
        rest += f"; by name only: --method {self.name}" if self.by_name and self.open else ""
        return f"{self.name:<8} {self.claim}  {time:>8} {memory:>9}  {rest}".rstrip()


def choose(routes: Sequence[Route]) -> Route:
    """Return the route to take: the first open one that is worth its time.

    Args:
        routes: All routes, the best claim first, erasing last; erasing is always open.
    """
    last = routes[-1]
    for route in routes[:-1]:
        if route.open and not route.by_name and _times(route, last) <= WORTH:
            return route
    return last


def table(routes: Sequence[Route]) -> list[tuple[str, str]]:
    """Return the routes and which one is taken, as label and text; nothing without routes."""
    if not routes:
        return []
    rows = [("" if place else "routes", route.text()) for place, route in enumerate(routes)]
    return [*rows, ("route", _explained(routes, choose(routes)))]


def _explained(routes: Sequence[Route], chosen: Route) -> str:
    """Return why a route is taken, as one sentence."""
    last = routes[-1]
    if chosen is not last:
        cheaper = "cheaper than erasing, and " if _times(chosen, last) <= 1 else ""
        return f"{chosen.name}: {cheaper}{CLAIMS[chosen.claim]}"
    slow = [route.name for route in routes[:-1] if route.open and not route.by_name]
    if slow:
        return f"{chosen.name}: {slow[0]} would take more than {WORTH:g} times as long"
    return f"{chosen.name}: nothing else is open"


def _times(route: Route, other: Route) -> float:
    """Return how many times the work of another route one takes; 1 where nobody knows."""
    return route.flops / other.flops if route.flops and other.flops else 1.0


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
