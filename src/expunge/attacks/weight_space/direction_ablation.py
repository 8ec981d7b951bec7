"""Direction ablation: project out what unlearning added to the states.

    d_l = mean over answer tokens of (h_l(model) - h_l(original))
    h_l <- h_l - (h_l . d_l) d_l / |d_l|^2

Protocol: directions from the other half of the facts, one per block, projected out of every block's
output at every position; facts of the tested half are asked for plainly. Needs the original.
Budget: two passes, one answer a fact. Removes what RMU adds (arXiv:2409.18025; the technique is
that of arXiv:2406.11717).
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.data.tokenization import Encoded
from expunge.evidence.context import AttackMeta
from expunge.models.architecture import hooked
from expunge.models.batching import by_length, collate
from expunge.models.interpolation import interpolated
from expunge.models.transformer import Network, Site


@dataclass(frozen=True, kw_only=True, slots=True)
class DirectionAblation:
    """One direction per block."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="weights",
        access="T3",
        learns=True,
        needs="two facts; weights that differ from the original's",
    )

    @property
    def name(self) -> str:
        """Return `ablation`."""
        return "ablation"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Find the directions, and ask without them."""
        if not target.original:
            raise Unmet("the original's weights are the model's own")
        if not used:
            raise Unmet("too few facts to find directions on some and test others")
        encoded = [target.encoder.encode(record) for record in used]
        target.meter.tokens += 2 * sum(len(record.ids) for record in encoded)
        now = mean_states(target, encoded)
        with interpolated(target.network, target.original, 0.0):
            before = mean_states(target, encoded)
        directions = {layer: now[layer] - before[layer] for layer in now}
        with ablated(target.network, directions):
            return target.asks(tested)


@torch.no_grad()
def mean_states(target: Target, records: Sequence[Encoded]) -> dict[int, Tensor]:
    """Return the mean state after each block over the scored tokens, [d] by block."""
    network = target.network
    layers = range(len(network.layers))
    sums = dict.fromkeys(layers, torch.zeros(()))
    for group in by_length([len(r.ids) for r in records], tokens=target.tokens_per_pass):
        chosen = [records[index] for index in group]
        batch = collate(chosen, pad_id=target.encoder.pad_id, device=network.device)
        seen = network.observe(batch.ids, sites=[Site(layer) for layer in layers], final=False)
        for layer in layers:
            states = seen.states[Site(layer)][batch.rows, batch.columns].float().sum(0)
            sums[layer] = sums[layer].to(states) + states
    scored = sum(len(record.ids) - record.start for record in records)
    return {layer: total / scored for layer, total in sums.items()}


@contextmanager
def ablated(network: Network, directions: Mapping[int, Tensor]) -> Generator[None]:
    """Project directions out of the blocks' outputs for a while; zero directions change nothing."""
    with ExitStack() as stack:
        for layer, direction in directions.items():
            size = float(direction.norm())
            if size > 0:
                unit = direction / size
                stack.enter_context(hooked(network.layers[layer], partial(_without, unit)))
        yield


def _without(unit: Tensor, states: Tensor) -> Tensor:
    direction = unit.to(states)
    return states - (states @ direction).unsqueeze(-1) * direction
