"""Original routing: the experts that the original would choose, in a mixture of experts.

    routers   theta_r = theta_r,original        r: weights of routers; all others are the model's
    routes    g_l(x_t) := g_l,original(x_t)     g_l: what the router of block l returns for token t
    value     extraction strength of the true answer under those routes, in [0, 1], 1 = known

Protocol: `routers` puts the original's routers in and asks plainly. `routes` reads question and
true answer with the original, then with the model, whose routers return what the original's
returned: the same experts with the same weights, also where other weights moved what routers read.
A model that only sends tokens past the experts that know the facts (router drift, arXiv:2411.18797)
states them again. The model is unchanged afterwards. Gold gets the original's routes just the same.
Budget: one answer and two teacher-forced passes a fact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.evidence.context import AttackMeta
from expunge.models.architecture import router_weights
from expunge.models.interpolation import interpolated
from expunge.models.routing import all_routers, observed_routes, replaced_routes

NAME = "original-routing"
NO_ROUTERS = "the model has no routers: it is no mixture of experts"


@dataclass(frozen=True, kw_only=True, slots=True)
class OriginalRouting:
    """The original's routers, and its choice of experts."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="weights",
        access="T3",
        union=False,
        own_scale=True,
        needs="a mixture of experts; weights that differ from the original's",
    )

    @property
    def name(self) -> str:
        """Return `original-routing`."""
        return NAME

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Ask with the original's routers, then score with its routes."""
        if not all_routers(target.network):
            raise Unmet(NO_ROUTERS)
        if target.judged and not target.original:
            raise Unmet("the original's weights are the model's own")
        own = {id(weight) for weight in router_weights(target.network.layers)}
        state = target.network.model.state_dict(keep_vars=True)
        theirs = {name: w for name, w in target.original.items() if id(state[name]) in own}
        with interpolated(target.network, theirs, 0.0):
            found = target.asks(tested, "routers")
        encoded = [target.encoder.encode(record) for record in tested]
        # One record a pass, so that the passes of both models are the same.
        with (
            interpolated(target.network, target.original, 0.0),
            observed_routes(target.network) as routes,
        ):
            for each in encoded:
                target.score([each])
        with replaced_routes(target.network, routes):
            for record in tested:
                found += target.strengths([record], "routes")
        return found
