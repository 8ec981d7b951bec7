"""Efficiency: what forgetting cost beside retraining, reported beside the axes."""

from expunge.metrics import efficiency
from expunge.metrics.registry.record import Metric, Need

EFFICIENCY: tuple[Metric, ...] = (
    Metric(
        id="flops",
        title="Floating-point operations",
        meaning="How much arithmetic the run took.",
        axis=None,
        of=efficiency.flops,
        needs=(),
        better="lower",
        cost="none",
        where="the library only",
        source="arXiv 2001.08361",
    ),
    Metric(
        id="speed-up",
        title="Speed-up",
        meaning="How many times cheaper forgetting was than retraining.",
        axis=None,
        of=efficiency.speed_up,
        needs=(Need.GOLD,),
        better="higher",
        cost="a gold training",
        where="the library only",
    ),
)
"""What belongs to no axis."""
