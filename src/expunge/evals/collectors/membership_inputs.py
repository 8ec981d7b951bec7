"""Other readings of the same text, for membership scores that compare two of them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from expunge.data.records import Record
from expunge.data.tokenization import Encoded
from expunge.evidence.collect import Collector, scores_of
from expunge.evidence.store import GRADIENT, LOWERCASE, RARITY, RECALL, Layers, Unit
from expunge.metrics.membership import first_occurrences, rarities
from expunge.models.scoring import score
from expunge.models.transformer import Network

STRANGERS = 3
"""Records put before the text by ReCaLL; they are left out of the comparison."""


def unrelated_records(collector: Collector) -> tuple[Record, ...]:
    """Return the records that ReCaLL puts before a text: the first of the holdout or control set.

    Empty when there are too few to spare any: at least as many must be left to compare with.
    """
    for split in ("holdout", "control"):
        records = collector.records.get(split, ())
        if len(records) > 2 * STRANGERS:
            return tuple(records[:STRANGERS])
    return ()


def collect_lowercase(collector: Collector, network: Network, role: str, split: str) -> None:
    """Score the answers in lower case, unless that was done. One pass."""
    unit = Unit(role=role, split=split, attack=LOWERCASE, kind="scores")
    records = collector.records[split]
    encoder = collector.encoder
    _score(
        collector,
        network,
        unit,
        records,
        lambda record: encoder.encode_with(record, record.completion.lower()),
    )


def collect_recall(collector: Collector, network: Network, role: str, split: str) -> None:
    """Score the records after texts that no model saw, unless that was done. One long pass."""
    before = unrelated_records(collector)
    unit = Unit(role=role, split=split, attack=RECALL, kind="scores")
    records = [record for record in collector.records[split] if record not in before]
    if not before or not records:
        return
    encode = collector.encoder.encode
    prefix = tuple(token for record in before for token in encode(record).ids)

    def prefixed(record: Record) -> Encoded:
        own = encode(record)
        return replace(own, ids=prefix + own.ids, start=len(prefix) + own.start)

    _score(collector, network, unit, records, prefixed)


def _score(
    collector: Collector,
    network: Network,
    unit: Unit,
    records: Sequence[Record],
    encode: Callable[[Record], Encoded],
) -> None:
    if collector.store.has(unit):
        return
    encoded = [encode(record) for record in records]
    found = score(
        network,
        encoded,
        pad_id=collector.encoder.pad_id,
        tokens_per_pass=collector.tokens_per_pass,
    )
    rows = [scores_of(*each) for each in zip(records, encoded, found, strict=True)]
    collector.store.write_scores(unit, rows)


def collect_gradient(collector: Collector, network: Network, role: str, split: str) -> None:
    """Take the norm of the gradient of each record's mean loss, per weight tensor.

    Evaluation mode, one record at a time, all weights. One forward and backward pass a record, and
    memory for one gradient of the model.
    """
    unit = Unit(role=role, split=split, attack=GRADIENT, kind="layers")
    if collector.store.has(unit):
        return
    rows = [
        Layers(record=record.id, values=gradient_norms(network, collector.encoder.encode(record)))
        for record in collector.records[split]
    ]
    collector.store.write(unit, rows)


def gradient_norms(network: Network, encoded: Encoded) -> tuple[float, ...]:
    """Return the Euclidean norm of the gradient of the mean loss for each weight tensor.

    The loss is the mean over content tokens; the end token is left out. The model's weights and
    their flags are as before on return.
    """
    weights = list(network.model.parameters())
    flags = [weight.requires_grad for weight in weights]
    stop = len(encoded.ids) - int(encoded.ends)
    ids = torch.tensor([encoded.ids[:stop]], device=network.device)
    columns = torch.arange(encoded.start - 1, stop - 1, device=network.device)
    try:
        for weight in weights:
            weight.requires_grad_(True)
        with torch.enable_grad():
            hidden = network.hidden(ids, torch.zeros_like(columns), columns)
            logits = network.logits(hidden)
            loss = torch.nn.functional.cross_entropy(logits, ids[0, encoded.start :])
            found = torch.autograd.grad(loss, weights, materialize_grads=True)
    finally:
        for weight, flag in zip(weights, flags, strict=True):
            weight.requires_grad_(flag)
    return tuple(torch.stack([grad.float().norm() for grad in found]).tolist())


def collect_rarity(collector: Collector, split: str, *, vocabulary: int) -> None:
    """Write how rare each scored token is in what is not judged: retained and general text.

    0 stands where the token has occurred before in the same record. No pass of any model.
    """
    unit = Unit(role="corpus", split=split, attack=RARITY, kind="layers")
    corpus = [
        record for name in ("retain", "generic") for record in collector.records.get(name, ())
    ]
    if not corpus or collector.store.has(unit):
        return
    counts: Counter[int] = Counter()
    for record in corpus:
        encoded = collector.encoder.encode(record)
        counts.update(encoded.ids[encoded.start :])
    rows: list[Layers] = []
    for record in collector.records[split]:
        encoded = collector.encoder.encode(record)
        scored = encoded.ids[encoded.start :]
        rare = rarities(scored, counts, vocabulary=vocabulary)
        pairs = zip(rare, first_occurrences(scored), strict=True)
        rows.append(
            Layers(record=record.id, values=tuple(r if first else 0.0 for r, first in pairs))
        )
    collector.store.write(unit, rows)
