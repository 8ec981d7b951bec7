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

Inside: where in the layers the fact is, by activation patching and by the logit lens.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.internals.logit_lens import depths
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.data.tokenization import Encoded, Encoder
from expunge.evidence.collect import Collector
from expunge.evidence.context import AttackMeta
from expunge.evidence.store import LENS, PATCHED, Layers, Unit
from expunge.models.batching import Batch, by_length, collate
from expunge.models.interpolation import ModelPair, interpolated
from expunge.models.transformer import CachedStates, Network, Site

TOKENS = 2048
"""Padded tokens whose states of all layers exist at the same time."""


class FactSpan(NamedTuple):
    """A record as tokens, and the scored tokens that are its fact."""

    encoded: Encoded
    first: int
    """Index of the fact's first token among the scored ones."""
    last: int
    """One past its last."""


def fact_span(encoder: Encoder, record: Record) -> FactSpan:
    """Find the fact in a record: its first key answer where that stands in the answer, else all.

    The answer is cut before and after the key answer's text; the tokens between are the fact's.
    """
    encoded = encoder.encode(record)
    content = len(encoded.ids) - encoded.start - int(encoded.ends)
    for key in record.key_answers:
        before, found, _ = record.completion.partition(key)
        if found:
            upto = 0
            if before.strip():
                upto = len(encoder.encode_with(record, before.rstrip()).ids) - encoded.start
                upto -= int(encoded.ends)
            through = len(encoder.encode_with(record, before + key).ids) - encoded.start
            through -= int(encoded.ends)
            if 0 <= upto < min(through, content):
                return FactSpan(encoded, upto, min(through, content))
    return FactSpan(encoded, 0, content)


def collect_inside(collector: Collector, pair: ModelPair, role: str, split: str = "forget") -> None:
    """Write the fact's mean log-probability, nats, per block: patched and through the lens.

    patched: the original reads on after block l with this model's states over the answer in place
    of its own. lens: this model's states after block l are read by the original's final norm and
    head. Both models must have the same tokens, width and depth. Two passes, and one of the
    upper half of the model per block and record.

    Both units have, as one more number at the end, the log-probability under the original's own
    states, from which drops are counted.
    """
    units = [Unit(role=role, split=split, attack=name, kind="layers") for name in (PATCHED, LENS)]
    if all(collector.store.has(unit) for unit in units):
        return
    records = collector.records[split]
    facts = [fact_span(collector.encoder, record) for record in records]
    found: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {}
    for group in by_length([len(each.encoded.ids) for each in facts], tokens=TOKENS):
        chosen = [facts[index] for index in group]
        found |= _batch(collector.encoder.pad_id, pair, chosen)
    for place, unit in enumerate(units):
        rows = [Layers(record=r.id, values=found[r.id][place]) for r in records if r.id in found]
        collector.store.write(unit, rows)


@torch.no_grad()
def _batch(
    pad_id: int, pair: ModelPair, facts: list[FactSpan]
) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    encoded = [each.encoded for each in facts]
    with pair.other() as other:
        batch = collate(encoded, pad_id=pad_id, device=other.device)
        theirs = _states(other, batch)
    with pair.original() as original:
        own = _states(original, batch)
        top = original.lens(_top(own)[batch.rows, batch.columns])
        clean = fact_means(original, top, batch, facts)
        patched, lensed = [], []
        for layer in range(len(original.layers)):
            patched.append(
                patched_means(
                    original, batch, facts, layer=layer, own=own[layer], theirs=theirs[layer]
                )
            )
            seen = original.lens(theirs[layer][batch.rows, batch.columns])
            lensed.append(fact_means(original, seen, batch, facts))
    return {
        each.encoded.record: (
            tuple(column[i] for column in (*patched, clean)),
            tuple(column[i] for column in (*lensed, clean)),
        )
        for i, each in enumerate(facts)
    }


def _states(network: Network, batch: Batch) -> dict[int, Tensor]:
    sites = [Site(layer) for layer in range(len(network.layers))]
    seen: Mapping[Site, Tensor] = network.observe(batch.ids, sites=sites, final=False).states
    return {site.layer: seen[site] for site in sites}


def _top(states: Mapping[int, Tensor]) -> Tensor:
    return states[max(states)]


def patched_means(
    network: Network,
    batch: Batch,
    facts: Sequence[FactSpan],
    *,
    layer: int,
    own: Tensor,
    theirs: Tensor,
) -> list[float]:
    """Return each fact's mean log-probability, nats, read on from another model's states.

    Args:
        network: The model that reads on.
        batch: The records, padded.
        facts: The same, with their facts.
        layer: Block after which states are replaced, at the positions that score.
        own: This model's states after that block, [B, L, d].
        theirs: The other model's, [B, L, d].
    """
    states = own.clone()
    states[batch.rows, batch.columns] = theirs[batch.rows, batch.columns]
    final = network.observe(batch.ids, below=CachedStates(layer + 1, states)).final
    assert final is not None
    return fact_means(network, final[batch.rows, batch.columns], batch, facts)


def fact_means(
    network: Network, hidden: Tensor, batch: Batch, facts: Sequence[FactSpan]
) -> list[float]:
    """Return each fact's mean log-probability, nats, from the last states that score, [N, d]."""
    logits = network.logits(hidden)
    logp = torch.log_softmax(logits, dim=-1).gather(-1, batch.targets.unsqueeze(-1)).squeeze(-1)
    counts = [len(each.encoded.ids) - each.encoded.start for each in facts]
    parts = logp.cpu().split(counts)
    return [
        float(part[each.first : each.last].mean()) for part, each in zip(parts, facts, strict=True)
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Patching:
    """States of the model in the original."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="inside",
        access="T3",
        union=False,
        own_scale=True,
        needs="two blocks; weights that differ from the original's",
    )

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
        facts = [fact_span(target.encoder, record) for record in tested]
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


def _values(
    target: Target, facts: Sequence[FactSpan], layers: Sequence[int]
) -> dict[int, list[float]]:
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
