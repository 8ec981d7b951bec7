"""Robustness: whether the knowledge is gone from inside the model."""

from expunge.metrics import erasure_depth
from expunge.metrics.outcomes import Axis
from expunge.metrics.registry.record import Metric, Need

ROBUSTNESS: tuple[Metric, ...] = (
    Metric(
        id="patching-depth",
        title="Erasure depth (patching)",
        meaning="How much of the fact is gone from the model's inside: 0 as in the original, 1 "
        "as in gold.",
        axis=Axis.ROBUSTNESS,
        of=erasure_depth.erasure_depth,
        needs=(Need.GOLD, Need.ORIGINAL),
        better="higher",
        cost="2L + 3 TF",
        source="arXiv 2605.24614",
    ),
    Metric(
        id="lens-depth",
        title="Erasure depth (lens)",
        meaning="How much of the fact is gone from the model's inside, read off each layer "
        "directly.",
        axis=Axis.ROBUSTNESS,
        of=erasure_depth.erasure_depth,
        needs=(Need.GOLD, Need.ORIGINAL),
        better="higher",
        cost="1 TF",
        source="arXiv 2605.24614",
    ),
)
"""Every metric of this axis, in the order in which they are listed."""
