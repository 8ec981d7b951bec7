"""Evidence beyond one pass and one answer a record; each function fills one kind of unit.

- Key spans: where the facts of forget records stand among the tokens of the answer. Records that
  name no fact have those that the original can predict and no gold can. These are read like key
  answers, so that attacks that ask, and the test whether a fact came back, are computable without
  anybody naming the facts.
- Options: how likely a model finds the true answer and false ones of its form.
- Other readings of the same text, for membership scores that compare two of them.
- Drift: how far a model moved from the original, in its predictions and in its weights. The two
  models are compared on the same tokens, and may take turns in the same memory.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expunge.attacks.internals.activation_patching import collect_inside
from expunge.data.records import Record
from expunge.data.tokenization import Encoded
from expunge.evidence.collect import Collector, scores_of
from expunge.evidence.store import (
    DIVERGENCE,
    EXPERTS,
    GRADIENT,
    LOWERCASE,
    ORIGINAL,
    PERTURBED,
    RARITY,
    RECALL,
    ROUTING,
    SPANS,
    WEIGHTS,
    Choices,
    EvidenceStore,
    FoundSpan,
    Layers,
    Scores,
    Unit,
)
from expunge.metrics.fact_matchers import english
from expunge.metrics.key_spans import key_spans, noise_threshold, tells, word_numbers
from expunge.metrics.membership import first_occurrences, rarities
from expunge.metrics.model_drift import experts_changed, routing_shift, weight_change
from expunge.models.batching import Batch, by_length, collate
from expunge.models.interpolation import ModelPair
from expunge.models.routing import mixing_weights, observed_routes
from expunge.models.scoring import score
from expunge.models.transformer import Network
from expunge.training.early_stopping import spread

MOST = 3
"""Facts of one record: those that the original gains most on."""

_UNSEEN = ("holdout", "control")


def collect_key_spans(collector: Collector, golds: Sequence[str]) -> None:
    """Store where the facts of forget records stand, and find those that nobody named; once.

    Args:
        collector: The evidence, with scores of the original and the golds on its tokens.
        golds: Roles of the golds; those without scores are left out.
    """
    store = collector.store
    if store.holds(SPANS):
        return
    original = _scores(store, ORIGINAL, "forget")
    references = [rows for gold in golds if (rows := _scores(store, gold, "forget"))]
    threshold = noise_threshold(_unseen(store, golds))
    kept = tuple(
        record.completion
        for split in ("retain", "neighbours")
        for record in collector.records.get(split, ())
    )
    found: list[FoundSpan] = []
    for record in collector.records.get("forget", ()):
        rows = [gold[record.id] for gold in references if record.id in gold]
        if record.key_answers:
            found += _named(collector, record)
        elif record.id in original and rows:
            texts = collector.encoder.texts(collector.encoder.encode(record))
            spans = _spans(record, texts, original[record.id], rows, threshold)
            found += _telling(spans, record, kept)
    if found:
        store.write_key_spans(found)


def _named(collector: Collector, record: Record) -> list[FoundSpan]:
    """Return the place of the key answers in the answer; nothing where it does not hold them."""
    whole, fact = collector.encoder.encode(record), collector.encoder.encode_fact(record)
    if fact == whole:
        return []
    start, stop = fact.start - whole.start, len(fact.ids) - int(fact.ends) - whole.start
    text = collector.encoder.decode(whole.ids[fact.start : whole.start + stop])
    return [FoundSpan(record=record.id, text=text, start=start, stop=stop, gain=0.0)]


def _spans(
    record: Record,
    texts: Sequence[str],
    original: Scores,
    golds: Sequence[Scores],
    threshold: float,
) -> list[FoundSpan]:
    spans = key_spans(
        _content(original),
        [_content(gold) for gold in golds],
        threshold=threshold,
        words=word_numbers(texts),
    )
    return [
        FoundSpan(
            record=record.id,
            text="".join(texts[span.start : span.stop]).strip(),
            start=span.start,
            stop=span.stop,
            gain=span.gain,
        )
        for span in spans
    ]


def _telling(spans: Sequence[FoundSpan], record: Record, kept: Sequence[str]) -> list[FoundSpan]:
    """Return the spans that are facts, at most `MOST`, in their order."""
    told = [row for row in spans if tells(row.text, (record.question,), english(), kept)]
    best = sorted(told, key=lambda row: -row.gain)[:MOST]
    return sorted(best, key=lambda row: row.start)


def _content(scores: Scores) -> tuple[float, ...]:
    return scores.logp[: scores.content]


def _scores(store: EvidenceStore, role: str, split: str) -> dict[str, Scores]:
    unit = Unit(role=role, split=split, kind="scores")
    return {row.record: row for row in store.scores(unit)} if store.has(unit) else {}


def _unseen(
    store: EvidenceStore, golds: Sequence[str]
) -> list[tuple[Sequence[float], Sequence[Sequence[float]]]]:
    """Return log-probabilities of the original and the golds on records that none of them saw."""
    found: list[tuple[Sequence[float], Sequence[Sequence[float]]]] = []
    for split in _UNSEEN:
        original = _scores(store, ORIGINAL, split)
        references = [_scores(store, gold, split) for gold in golds]
        for name, row in original.items():
            rows = [_content(gold[name]) for gold in references if name in gold]
            if rows:
                found.append((_content(row), rows))
    return found


def candidates(record: Record) -> tuple[str, ...]:
    """Return the true answer, in other words where the record gives them, and the false ones."""
    return ((*record.restated, record.completion)[0], *record.wrong)


def with_options(records: Sequence[Record]) -> list[Record]:
    """Return the records that have false answers."""
    return [record for record in records if record.wrong]


def collect_options(collector: Collector, network: Network, role: str, split: str) -> None:
    """Score all candidates of every record of a set that has false answers, unless that was done.

    Cost: one pass over each candidate; the beginning that all share is read once.
    """
    unit = Unit(role=role, split=split, attack=PERTURBED, kind="choices")
    records = with_options(collector.records[split])
    if not records or collector.store.has(unit):
        return
    texts = [(record, text) for record in records for text in candidates(record)]
    encoded = [collector.encoder.encode_with(record, text) for record, text in texts]
    found = score(
        network,
        encoded,
        pad_id=collector.encoder.pad_id,
        tokens_per_pass=collector.tokens_per_pass,
    )
    content = [len(e.ids) - e.start - int(e.ends) for e in encoded]
    sums = [float(s.logp[:n].sum()) for s, n in zip(found, content, strict=True)]
    endings = [float(s.logp[-1]) for s, e in zip(found, encoded, strict=True) if e.ends]
    rows: list[Choices] = []
    start = 0
    for record in records:
        stop = start + len(candidates(record))
        rows.append(
            Choices(
                record=record.id,
                logp=tuple(sums[start:stop]),
                tokens=tuple(content[start:stop]),
                correct=0,
                ending=tuple(endings[start:stop]) if len(endings) == len(sums) else (),
            )
        )
        start = stop
    collector.store.write(unit, rows)


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
    rows = [
        scores_of(record, tokens, values, collector.encoder)
        for record, tokens, values in zip(records, encoded, found, strict=True)
    ]
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


PROBED = 16
"""Records of a set on which divergence is measured; each gives one number a token."""

TOKENS = 1024
"""Padded tokens of which the full distributions of both models exist at the same time."""


def collect_divergence(collector: Collector, pair: ModelPair, role: str, split: str) -> None:
    """Write KL(original || model) at every scored position of some records, nats.

    Two passes over at most 32 records; full distributions in float32.
    """
    unit = Unit(role=role, split=split, attack=DIVERGENCE, kind="layers")
    records = spread(collector.records.get(split, ()), PROBED)
    if not records or collector.store.has(unit):
        return
    encoded = [collector.encoder.encode(record) for record in records]
    values: dict[str, tuple[float, ...]] = {}
    for group in by_length([len(e.ids) for e in encoded], tokens=TOKENS):
        chosen = [encoded[index] for index in group]
        with pair.other() as other:
            batch = collate(chosen, pad_id=collector.encoder.pad_id, device=other.device)
            own = _log_probs(other, batch)
        with pair.original() as original:
            before = _log_probs(original, batch)
        found = (before.exp() * (before - own)).sum(-1).clamp(min=0.0).cpu()
        counts = [len(e.ids) - e.start for e in chosen]
        for e, part in zip(chosen, found.split(counts), strict=True):
            values[e.record] = tuple(part.tolist())
    rows = [Layers(record=record.id, values=values[record.id]) for record in records]
    collector.store.write(unit, rows)


@torch.no_grad()
def _log_probs(network: Network, batch: Batch) -> Tensor:
    hidden = network.hidden(batch.ids, batch.rows, batch.columns)
    return torch.log_softmax(network.logits(hidden), dim=-1)


def collect_routing(collector: Collector, pair: ModelPair, role: str, split: str) -> None:
    """Write how each router's choice of experts changed on some records, one number a router.

    Two units: the share of tokens sent to other experts, and the shift of experts' shares. All
    tokens of a record count. Nothing is written for a model without routers, or where a router
    names no experts. Two passes over at most 16 records.
    """
    units = [Unit(role=role, split=split, attack=of, kind="layers") for of in (EXPERTS, ROUTING)]
    records = spread(collector.records.get(split, ()), PROBED)
    if not records or all(map(collector.store.has, units)):
        return
    with pair.other() as other:
        after = [_shares(other, collector.encoder.encode(record)) for record in records]
    with pair.original() as original:
        before = [_shares(original, collector.encoder.encode(record)) for record in records]
    rows: tuple[list[Layers], list[Layers]] = ([], [])
    for record, old, new in zip(records, before, after, strict=True):
        if old and new and [each.shape for each in old] == [each.shape for each in new]:
            for found, of in zip(rows, (experts_changed, routing_shift), strict=True):
                values = [of(*both) for both in zip(old, new, strict=True)]
                kept = tuple(value for value in values if value is not None)
                found.append(Layers(record=record.id, values=kept))
    for unit, found in zip(units, rows, strict=True):
        if found:
            collector.store.write(unit, found)


@torch.no_grad()
def _shares(network: Network, encoded: Encoded) -> list[NDArray[np.float32]]:
    """Return the shares of experts of each router, [T, E]; empty if one of them names none."""
    ids = torch.tensor([encoded.ids], device=network.device)
    with observed_routes(network) as routes:
        network.observe(ids)
    shares = [mixing_weights(output) for outputs in routes.values() for output in outputs]
    found = [_array(each) for each in shares if each is not None]
    return found if len(found) == len(shares) else []


def collect_weights(
    collector: Collector, unlearned: Network, original: Mapping[str, Tensor]
) -> None:
    """Write the change of every weight tensor that is not the original's, unless that was done.

    The record of a row is the tensor's name; tensors without a row did not change. Seconds on a
    CPU; no pass of any model.
    """
    unit = Unit(role="unlearned", split="weights", attack=WEIGHTS, kind="layers")
    if collector.store.has(unit):
        return
    state = unlearned.model.state_dict()
    rows = [
        Layers(record=name, values=weight_change(_array(tensor), _array(state[name])))
        for name, tensor in original.items()
    ]
    collector.store.write(unit, rows)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().float().cpu().numpy()


COMPARED = ("forget", "holdout", "control")
"""Sets between which membership is told."""

KEPT = ("retain", "generic")
"""Sets on which predictions should not have moved."""

ROUTED = ("retain", "neighbours")
"""Sets whose tokens should meet the experts that they met before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtraEvidence:
    """Collects what goes beyond one pass and one answer, each unit that is not there yet."""

    collector: Collector
    deep: bool
    """Whether also to read texts in other ways, take gradients, and look inside the model."""

    def original(self, network: Network) -> None:
        """Take the further evidence of the original."""
        self._alone(network, "original", tuple(self.collector.records))
        if self.deep:
            for split in self._compared():
                collect_rarity(self.collector, split, vocabulary=network.vocabulary)
            collect_inside(self.collector, ModelPair.beside(network, network), "original")

    def gold(self, network: Network, original: Network, role: str, *, first: bool) -> None:
        """Take the further evidence of a gold; the first one also shows what retraining moves."""
        splits = tuple(self.collector.records) if first else self._compared()
        self._alone(network, role, splits)
        if first:
            self._beside(ModelPair.beside(network, original), role, same=alike(network, original))

    def unlearned(self, network: Network, original: Mapping[str, Tensor]) -> None:
        """Take the further evidence of the model that is judged.

        Args:
            network: The model; unchanged on return.
            original: The original's tensors, as far as they differ.
        """
        self._alone(network, "unlearned", tuple(self.collector.records))
        collect_weights(self.collector, network, original)
        self._beside(ModelPair.swapped(network, original), "unlearned", same=True)

    def _alone(self, network: Network, role: str, splits: tuple[str, ...]) -> None:
        for split in splits:
            collect_options(self.collector, network, role, split)
        if self.deep:
            for split in self._compared():
                collect_lowercase(self.collector, network, role, split)
                collect_recall(self.collector, network, role, split)
                collect_gradient(self.collector, network, role, split)

    def _beside(self, pair: ModelPair, role: str, *, same: bool) -> None:
        if not same:
            return
        for split in KEPT:
            collect_divergence(self.collector, pair, role, split)
        for split in ROUTED:
            collect_routing(self.collector, pair, role, split)
        if self.deep:
            collect_inside(self.collector, pair, role)

    def _compared(self) -> tuple[str, ...]:
        return tuple(split for split in COMPARED if split in self.collector.records)


def alike(first: Network, second: Network) -> bool:
    """Tell whether two models have the same vocabulary, width and depth.

    Only then can predictions be compared token by token and states be exchanged.
    """
    shapes = [
        (each.vocabulary, len(each.layers), each.head.get_parameter("weight").shape[-1])
        for each in (first, second)
    ]
    return shapes[0] == shapes[1]
