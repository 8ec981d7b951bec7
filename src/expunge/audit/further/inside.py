"""Inside: where in the layers the fact is, by activation patching and by the logit lens."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from expunge.audit.collect import Collector
from expunge.audit.evidence import Layers, Unit
from expunge.audit.further import LENS, PATCHED
from expunge.audit.further.pair import Pair
from expunge.data.encode import Encoded, Encoder
from expunge.data.record import Record
from expunge.model.batch import Batch, by_length, collate
from expunge.model.network import Below, Network, Site

TOKENS = 2048
"""Padded tokens whose states of all layers exist at the same time."""


class Fact(NamedTuple):
    """A record as tokens, and the scored tokens that are its fact."""

    encoded: Encoded
    first: int
    """Index of the fact's first token among the scored ones."""
    last: int
    """One past its last."""


def fact(encoder: Encoder, record: Record) -> Fact:
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
                return Fact(encoded, upto, min(through, content))
    return Fact(encoded, 0, content)


def collect_inside(collector: Collector, pair: Pair, role: str, split: str = "forget") -> None:
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
    facts = [fact(collector.encoder, record) for record in records]
    found: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {}
    for group in by_length([len(each.encoded.ids) for each in facts], tokens=TOKENS):
        chosen = [facts[index] for index in group]
        found |= _batch(collector.encoder.pad_id, pair, chosen)
    for place, unit in enumerate(units):
        rows = [Layers(record=r.id, values=found[r.id][place]) for r in records if r.id in found]
        collector.store.write(unit, rows)


@torch.no_grad()
def _batch(
    pad_id: int, pair: Pair, facts: list[Fact]
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
    facts: Sequence[Fact],
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
    final = network.observe(batch.ids, below=Below(layer + 1, states)).final
    assert final is not None
    return fact_means(network, final[batch.rows, batch.columns], batch, facts)


def fact_means(
    network: Network, hidden: Tensor, batch: Batch, facts: Sequence[Fact]
) -> list[float]:
    """Return each fact's mean log-probability, nats, from the last states that score, [N, d]."""
    logits = network.logits(hidden)
    logp = torch.log_softmax(logits, dim=-1).gather(-1, batch.targets.unsqueeze(-1)).squeeze(-1)
    counts = [len(each.encoded.ids) - each.encoded.start for each in facts]
    parts = logp.cpu().split(counts)
    return [
        float(part[each.first : each.last].mean()) for part, each in zip(parts, facts, strict=True)
    ]
