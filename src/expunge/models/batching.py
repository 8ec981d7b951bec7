"""Batches: records padded on the right or packed, with their scored positions by index."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import groupby, takewhile
from typing import NamedTuple

import torch
from torch import Tensor

from expunge.data.tokenization import Encoded

WORTH = 4
"""Fewest common first tokens that are worth sharing."""


class PackLayout(NamedTuple):
    """How n records lie in a pack of T tokens; see `model.pack`."""

    positions: Tensor
    """[1, T] the place of each token in its record."""
    shared: int
    """S: tokens that all records begin with, laid down once."""
    lengths: tuple[int, ...]
    """Tokens of each record after these."""
    rows: Tensor
    """[n, L] the token of the pack at each place of each record, L = S + the greatest length."""
    cells: Tensor
    """[T] the place of each token in the rows, flat; of a shared token that in the first row."""


class Batch(NamedTuple):
    """B records padded on the right to L tokens, or packed into one row; N scored tokens in them.

    Padding needs no mask: attention is causal and padding comes last, so no real token sees it, and
    scored positions are picked by index, so an end token that equals the padding token stays
    visible.
    """

    ids: Tensor
    """[B, L] token ids; [1, T] of a pack."""
    rows: Tensor
    """[N] the row of each scored token."""
    columns: Tensor
    """[N] the position in its row that predicts the token: one before it."""
    targets: Tensor
    """[N] the scored tokens."""
    size: int
    """B."""
    layout: PackLayout | None = None
    """None: padded."""


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


def evenly(lengths: Sequence[int], *, tokens: int) -> list[list[int]]:
    """Group as `by_length` does, in as many groups, of which the largest is as small as can be."""

    def groups(limit: int) -> list[list[int]]:
        return list(by_length(lengths, tokens=limit))

    most = len(groups(tokens))
    return groups(bisect_left(range(tokens), True, key=lambda limit: len(groups(limit)) <= most))


PASS = 24
"""What reading a beginning by itself takes, in tokens of a large batch: the weights are read."""


class Beginning(NamedTuple):
    """Rows that are worth reading behind one beginning."""

    length: int
    """Tokens of the beginning; 0: the rows share nothing that is worth it."""
    rows: tuple[int, ...]


def by_beginning(prompts: Sequence[Sequence[int]]) -> list[Beginning]:
    """Group prompts so that what some of them begin with is read once for these.

    The cost is counted in tokens: a beginning that is read by itself costs its length and `PASS`.
    Prompts in several formats begin alike by format, those of one format after a system prompt.

    Args:
        prompts: Token ids; each keeps one token of its own.

    Returns:
        Groups that hold every prompt once; those that share nothing are one group, the last.
    """
    order = sorted(range(len(prompts)), key=lambda row: tuple(prompts[row]))
    shared = [each for each in _cheapest(prompts, order)[1] if each.length]
    held = {row for each in shared for row in each.rows}
    rest = tuple(row for row in range(len(prompts)) if row not in held)
    return [*shared, Beginning(0, rest)] if rest else shared


def _cheapest(
    prompts: Sequence[Sequence[int]], order: Sequence[int]
) -> tuple[int, tuple[Beginning, ...]]:
    """Return what reading some prompts costs at best, in tokens, and how; `order` is sorted."""
    alone = sum(len(prompts[row]) for row in order)
    best = alone, (Beginning(0, tuple(order)),)
    if len(order) < 2:
        return best
    pairs = zip(prompts[order[0]], prompts[order[-1]], strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    length = min(same, min(len(prompts[row]) for row in order) - 1)
    together = alone - length * (len(order) - 1) + PASS
    if length >= WORTH and together < alone:
        best = together, (Beginning(length, tuple(order)),)
    if same > length:  # one is what the others begin with: nothing further down is shared by all
        return best
    parts = [
        _cheapest(prompts, tuple(part))
        for _, part in groupby(order, key=lambda row: prompts[row][length])
    ]
    apart = sum(cost for cost, _ in parts)
    if apart < best[0]:
        best = apart, tuple(each for _, groups in parts for each in groups)
    return best


def shared_beginning(records: Sequence[Encoded]) -> int:
    """Return how many tokens all records begin with, if computing them once is worth it, else 0.

    The tokens that predict scored ones are never among them.
    """
    if len(records) < 2:
        return 0
    limit = min(record.start for record in records) - 1
    first, last = min(record.ids for record in records), max(record.ids for record in records)
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    length = min(limit, sum(1 for _ in same))
    return length if length >= WORTH else 0
