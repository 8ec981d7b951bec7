"""Locality: whether the change stayed where it belongs."""

from expunge.metrics import model_drift
from expunge.metrics.outcomes import Axis
from expunge.metrics.registry.record import SAME_PASS, Metric, Need

LOCALITY: tuple[Metric, ...] = (
    Metric(
        id="distance-response",
        title="Damage by distance",
        meaning="Fall of probability of records that should stay, the nearest quarter first.",
        axis=Axis.LOCALITY,
        of=model_drift.distance_response,
        needs=(Need.RETAIN,),
        better="lower",
        cost=SAME_PASS,
        source="arXiv 2511.00030",
    ),
    Metric(
        id="weight-change",
        title="Change of the weights",
        meaning="Size of the change of a weight matrix, relative to the original.",
        axis=Axis.LOCALITY,
        of=model_drift.weight_change,
        needs=(Need.WEIGHTS,),
        better="lower",
        cost="no pass",
    ),
    Metric(
        id="weight-change-max",
        title="Largest change",
        meaning="Size of the change of the matrix that changed most, relative to the original.",
        axis=Axis.LOCALITY,
        of=model_drift.weight_change,
        needs=(Need.WEIGHTS,),
        better="lower",
        cost="no pass",
    ),
    Metric(
        id="experts-changed",
        title="Tokens sent to other experts",
        meaning="Share of tokens of kept records that routers send to other experts than before.",
        axis=Axis.LOCALITY,
        of=model_drift.experts_changed,
        needs=(Need.ORIGINAL, Need.RETAIN, Need.ROUTERS),
        better="lower",
        cost="2 TF",
        source="arXiv:2411.18797",
    ),
    Metric(
        id="routing-shift",
        title="Shift of experts' shares",
        meaning="How far the shares of experts in kept records moved, 0 = not at all, 1 = wholly.",
        axis=Axis.LOCALITY,
        of=model_drift.routing_shift,
        needs=(Need.ORIGINAL, Need.RETAIN, Need.ROUTERS),
        better="lower",
        cost="none beyond `experts-changed`",
        source="arXiv:2411.18797",
    ),
)
"""Every metric of this axis, in the order in which they are listed."""
