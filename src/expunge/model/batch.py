"""Batches: records of similar length padded on the right, with their scored positions by index."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from expunge.data.encode import Encoded


class Batch(NamedTuple):
    """B records padded on the right to L tokens, N scored tokens among them.

    Padding needs no mask: attention is causal and padding comes last, so no real token sees it, and
    scored positions are picked by index, so an end token that equals the padding token stays
    visible.
    """

    ids: Tensor
    """[B, L] token ids."""
    rows: Tensor
    """[N] the record of each scored token."""
    columns: Tensor
    """[N] the position that predicts the token: one before it."""
    targets: Tensor
    """[N] the scored tokens."""
    size: int
    """B."""


def collate(records: Sequence[Encoded], *, pad_id: int, device: torch.device) -> Batch:
    """Pad records on the right and list their scored positions in record order."""
    length = max(len(record.ids) for record in records)
    ids = torch.full((len(records), length), pad_id, dtype=torch.long)
    rows: list[int] = []
    columns: list[int] = []
    targets: list[int] = []
    for row, record in enumerate(records):
        ids[row, : len(record.ids)] = torch.tensor(record.ids)
        scored = range(record.start, len(record.ids))
        rows.extend([row] * len(scored))
        columns.extend(position - 1 for position in scored)
        targets.extend(record.ids[record.start :])
    as_index = [torch.tensor(values, device=device) for values in (rows, columns, targets)]
    return Batch(ids.to(device), *as_index, size=len(records))


def by_length(lengths: Sequence[int], *, tokens: int) -> Iterator[list[int]]:
    """Group indices of similar length so that padded batches hold at most `tokens` tokens.

    A single record longer than `tokens` makes a batch of its own. Ties keep their order, so the
    grouping is a function of the lengths alone.
    """
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    group: list[int] = []
    for index in order:
        if group and lengths[index] * (len(group) + 1) > tokens:
            yield group
            group = []
        group.append(index)
    if group:
        yield group
