"""One number of a peer, beside the same thing in our definition."""

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", "gold"]
"""Which way is better; `gold` when the aim is what a model that never saw the data gives."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerNumber:
    """A number as the peer names and counts it, and what ours would be."""

    name: str
    """The peer's name of it, with the model or task where the log has several."""
    value: float
    """The peer's number, unchanged."""
    metric: str = ""
    """Our id of the nearest metric; empty when there is none."""
    ours: float | None = None
    """The same evidence by our definition and direction; None when the log does not allow it."""
    better: Better
    """Direction of the peer's number."""
    note: str = ""
    """What was converted, or why the two differ (trap ids are those of docs/metrics.md)."""
