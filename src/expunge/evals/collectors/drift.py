"""Shift: how far a model moved from the original, in its predictions and in its weights.

Two models that are compared on the same tokens, and may take turns in the same memory.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expunge.evidence.collect import Collector
from expunge.evidence.store import DIVERGENCE, WEIGHTS, Layers, Unit
from expunge.metrics.model_drift import weight_change
from expunge.models.batching import Batch, by_length, collate
from expunge.models.interpolation import ModelPair
from expunge.models.transformer import Network
from expunge.training.early_stopping import spread

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
