"""Every metric by axis: one record each, in the file of its axis."""

from collections.abc import Mapping
from difflib import get_close_matches

from expunge.errors import UsageError
from expunge.metrics.registry.efficiency import EFFICIENCY
from expunge.metrics.registry.forgetting import FORGETTING
from expunge.metrics.registry.locality import LOCALITY
from expunge.metrics.registry.privacy import PRIVACY
from expunge.metrics.registry.record import Metric
from expunge.metrics.registry.robustness import ROBUSTNESS
from expunge.metrics.registry.utility import UTILITY

METRICS: tuple[Metric, ...] = (
    *FORGETTING,
    *PRIVACY,
    *ROBUSTNESS,
    *UTILITY,
    *LOCALITY,
    *EFFICIENCY,
)
"""Every metric, by axis."""

BY_ID: Mapping[str, Metric] = {metric.id: metric for metric in METRICS}
"""Metric id to its record."""


def find(name: str) -> Metric:
    """Return the record of a metric.

    Raises:
        UsageError: There is none of this name.
    """
    if name in BY_ID:
        return BY_ID[name]
    near = get_close_matches(name, BY_ID, n=1)
    raise UsageError(
        "unknown-metric",
        what=f"there is no metric {name!r}",
        why=f"the nearest name is {near[0]}" if near else "no name is near",
        fix="`expunge metrics` lists all of them",
    )
