"""Activation patching: does the original still find the fact in the model's states?

    d_l = mean over the fact's tokens of log p_o(y_t) - log p_o(y_t | states after block l at the
          answer's positions are the model's)
    value = exp(-max(0, d_l))

Protocol: the model's states after block l replace the original's over the answer; what the
original's upper blocks then make of them is the value, 1 = as with its own states. The fact's
tokens are those of the key answer where it stands in the answer, else all. This is the second stage
of the Unlearning Depth Score (arXiv:2605.24614) on the scale of probabilities, so that it can stand
on the ladder: the excess over gold, as a share of what the original's own states give. Needs the
original and the same tokens and depth. Budget: two passes, and one of the upper blocks per depth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from expunge.audit.attacks.attempt import Attempt
from expunge.audit.attacks.inside.layers import depths
from expunge.audit.attacks.protocol import Unmet
from expunge.audit.attacks.target import Target
from expunge.audit.further.inside import Fact, fact, fact_means, patched_means
from expunge.audit.recorded import Access, Family
from expunge.data.record import Record
from expunge.model.batch import by_length, collate
from expunge.model.interpolate import interpolated
from expunge.model.network import Site


@dataclass(frozen=True, kw_only=True, slots=True)
class Patching:
    """States of the model in the original."""

    family: ClassVar[Family] = "inside"
    access: ClassVar[Access] = "T3"
    learns: ClassVar[bool] = False
    union: ClassVar[bool] = False
    own_scale: ClassVar[bool] = True
    needs: ClassVar[str] = "two blocks; weights that differ from the original's"

    shares: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)

    @property
    def name(self) -> str:
        """Return `patching`."""
        return "patching"

    @torch.no_grad()
    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Patch at every depth."""
        layers = depths(target.network, self.shares)
        if not layers:
            raise Unmet("the model has a single block")
        if target.judged and not target.original:
            raise Unmet("the original's weights are the model's own")
        facts = [fact(target.encoder, record) for record in tested]
        found: list[Attempt] = []
        lengths = [len(each.encoded.ids) for each in facts]
        for group in by_length(lengths, tokens=target.tokens_per_pass):
            values = _values(target, [facts[index] for index in group], layers)
            found += [
                Attempt(record=tested[index].id, variant=f"block {layer}", value=value)
                for layer in layers
                for index, value in zip(group, values[layer], strict=True)
            ]
        return found


def _values(target: Target, facts: Sequence[Fact], layers: Sequence[int]) -> dict[int, list[float]]:
    """Return by block how much of each fact the original finds in the model's states."""
    network = target.network
    records = [each.encoded for each in facts]
    batch = collate(records, pad_id=target.encoder.pad_id, device=network.device)
    sites = [Site(layer) for layer in layers]
    theirs = network.observe(batch.ids, sites=sites, final=False).states
    found: dict[int, list[float]] = {}
    with interpolated(network, target.original, 0.0):
        seen = network.observe(batch.ids, sites=sites)
        assert seen.final is not None
        before = fact_means(network, seen.final[batch.rows, batch.columns], batch, facts)
        for layer in layers:
            own, other = seen.states[Site(layer)], theirs[Site(layer)]
            after = patched_means(network, batch, facts, layer=layer, own=own, theirs=other)
            found[layer] = [
                math.exp(min(0.0, now - then)) for now, then in zip(after, before, strict=True)
            ]
    target.meter.tokens += (2 + len(layers)) * sum(len(record.ids) for record in records)
    return found
