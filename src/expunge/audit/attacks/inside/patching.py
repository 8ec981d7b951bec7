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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.audit.attacks.asking.cloze import first_key
from expunge.audit.attacks.attempt import Attempt
from expunge.audit.attacks.inside.layers import depths
from expunge.audit.attacks.protocol import Access, Family, Unmet
from expunge.audit.attacks.target import Target
from expunge.data.encode import Encoded
from expunge.data.record import Record
from expunge.model.batch import Batch, by_length, collate
from expunge.model.interpolate import interpolated
from expunge.model.network import Below, Site


@dataclass(frozen=True, kw_only=True, slots=True)
class Patching:
    """States of the model in the original."""

    family: ClassVar[Family] = "inside"
    access: ClassVar[Access] = "T3"
    learns: ClassVar[bool] = False
    union: ClassVar[bool] = False
    own_scale: ClassVar[bool] = True

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
        encoded = [target.encoder.encode(record) for record in tested]
        spans = [fact_tokens(target, r, e) for r, e in zip(tested, encoded, strict=True)]
        found: list[Attempt] = []
        for group in by_length([len(e.ids) for e in encoded], tokens=target.tokens_per_pass):
            chosen = [encoded[index] for index in group]
            values = self._values(target, chosen, [spans[index] for index in group], layers)
            for place, index in enumerate(group):
                found += [
                    Attempt(
                        record=tested[index].id,
                        variant=f"block {layer}",
                        value=values[layer][place],
                    )
                    for layer in layers
                ]
        return found

    def _values(
        self,
        target: Target,
        records: Sequence[Encoded],
        spans: Sequence[Tensor],
        layers: Sequence[int],
    ) -> dict[int, list[float]]:
        network = target.network
        batch = collate(records, pad_id=target.encoder.pad_id, device=network.device)
        sites = [Site(layer) for layer in layers]
        theirs = network.observe(batch.ids, sites=sites, final=False).states
        found: dict[int, list[float]] = {}
        with interpolated(network, target.original, 0.0):
            own = network.observe(batch.ids, sites=sites)
            assert own.final is not None
            before = self._means(target, batch, own.final, spans)
            for layer in layers:
                states = own.states[Site(layer)].clone()
                for row, record in enumerate(records):
                    states[row, record.start - 1 :] = theirs[Site(layer)][row, record.start - 1 :]
                seen = network.observe(batch.ids, below=Below(layer + 1, states))
                assert seen.final is not None
                after = self._means(target, batch, seen.final, spans)
                found[layer] = (after - before).clamp(max=0).exp().tolist()
        target.meter.tokens += (2 + len(layers)) * sum(len(record.ids) for record in records)
        return found

    def _means(
        self, target: Target, batch: Batch, final: Tensor, spans: Sequence[Tensor]
    ) -> Tensor:
        """Return the mean log-probability of each record's fact tokens, [B]."""
        logits = target.network.logits(final[batch.rows, batch.columns])
        logp = torch.log_softmax(logits, dim=-1).gather(-1, batch.targets.unsqueeze(-1))
        parts = logp.squeeze(-1).cpu().split([len(span) for span in spans])
        return torch.stack([part[span].mean() for part, span in zip(parts, spans, strict=True)])


def fact_tokens(target: Target, record: Record, encoded: Encoded) -> Tensor:
    """Return a mask over the scored tokens: those of the key answer, else all of the answer."""
    mask = torch.ones(len(encoded.ids) - encoded.start, dtype=torch.bool)
    if encoded.ends:
        mask[-1] = False
    place = first_key(record)
    if place is None or not record.prompt:
        return mask
    start, stop = place
    text = record.completion
    first, last = (
        len(target.encoder.encode_with(record, text[:end]).ids) - encoded.start - int(encoded.ends)
        if text[:end].strip()
        else 0
        for end in (start, stop)
    )
    # A token may reach over the seam: begin one early where the cut text ends in a space.
    first = max(0, first - int(text[:start].endswith(" ")))
    chosen = torch.zeros_like(mask)
    chosen[first:last] = True
    return chosen & mask if bool((chosen & mask).any()) else mask
