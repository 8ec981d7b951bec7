"""Batches: records padded on the right or packed, with their scored positions by index.

A pack lays records end to end without padding, and what all begin with once:

    pack        shared | rest of record 0 | rest of record 1 | ...          T tokens
    attention   row i:   shared | rest of record i | padding                 [n, L]

Linear layers, norms and the head see the T tokens of a pack and no padding. Attention alone is
computed by record: queries, keys and values are laid out as rows, where causality is plain, no
record sees another, and the gradient of the shared beginning is the sum over the records that
attend to it. So a pack computes exactly what the records give one by one.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from expunge.data.tokenization import Encoded, same_beginning
from expunge.errors import is_out_of_memory
from expunge.models.cpu_kernels import is_short, short_attention

WORTH = 4
"""Fewest common first tokens that are worth sharing."""


def in_parts(group: Sequence[int], work: Callable[[list[int]], None]) -> None:
    """Work on a group of records; where memory is full, on each half of it, down to one record.

    Args:
        group: Indices of the records.
        work: Called with one part after the other; one that failed must have written nothing.

    Raises:
        RuntimeError: One record alone does not fit, or another error of `work`.
        MemoryError: The same, of the processor's memory.

    Example:
        >>> done = []
        >>> in_parts([3, 1, 2], done.append)
        >>> done
        [[3, 1, 2]]
    """
    waiting = [list(group)]
    while waiting:
        part = waiting.pop()
        try:
            work(part)
            continue
        except (RuntimeError, MemoryError) as error:
            if len(part) == 1 or not is_out_of_memory(error):
                raise
        middle = len(part) // 2  # outside: what failed is not held any longer
        waiting += [part[middle:], part[:middle]]


class PackLayout(NamedTuple):
    """How n records lie in a pack of T tokens; see `pack`."""

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
    same = same_beginning(prompts[order[0]], prompts[order[-1]])
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
    length = min(limit, same_beginning(first, last))
    return length if length >= WORTH else 0


ATTENTION = "expunge"
"""The attention of transformers that knows packs; without one it is PyTorch's own."""


class LostLayoutError(Exception):
    """The model did not hand the layout of a pack down to its attention."""


def pack(records: Sequence[Encoded], *, device: torch.device, share: bool = True) -> Batch:
    """Lay records end to end and list their scored positions in record order.

    Args:
        records: At least one.
        device: Where to.
        share: Whether what all records begin with is laid down once.
    """
    shared = shared_beginning(records) if share else 0
    ids, positions = list(records[0].ids[:shared]), list(range(shared))
    starts: list[int] = []
    columns: list[int] = []
    targets: list[int] = []
    for record in records:
        start = len(ids)  # place in the pack of the record's first token after the shared ones
        starts.append(start)
        ids.extend(record.ids[shared:])
        positions.extend(range(shared, len(record.ids)))
        # A scored token is predicted one place before it.
        columns.extend(
            range(start + record.start - 1 - shared, start + len(record.ids) - 1 - shared)
        )
        targets.extend(record.ids[record.start :])
    lengths = [len(record.ids) - shared for record in records]
    places = torch.tensor(columns, device=device)
    return Batch(
        ids=torch.tensor([ids], device=device),
        rows=torch.zeros_like(places),
        columns=places,
        targets=torch.tensor(targets, device=device),
        size=len(records),
        layout=_layout(torch.tensor([positions], device=device), shared, starts, lengths),
    )


def by_record(states: Tensor, batch: Batch) -> list[Tensor]:
    """Return the states of each record, [B, L, d] -> [T_i, d] each; padding may follow them."""
    if batch.layout is None:
        return list(states)
    shared = batch.layout.shared
    rests = states[0, shared:].split(batch.layout.lengths)
    return [torch.cat([states[0, :shared], rest]) for rest in rests]


def _layout(positions: Tensor, shared: int, starts: list[int], lengths: list[int]) -> PackLayout:
    device = positions.device
    longest = max(lengths)
    first = torch.tensor(starts, device=device).unsqueeze(1)  # [n, 1]
    offset = torch.arange(longest, device=device)  # [longest]
    real = offset < torch.tensor(lengths, device=device).unsqueeze(1)  # [n, longest]
    own = torch.where(real, first + offset, first)  # padding repeats a record's first token
    common = torch.arange(shared, device=device).expand(len(starts), shared)  # [n, S]
    # Flat places in [n, L] of the tokens that are no padding; row i begins at i L.
    cells = (shared + offset) + (shared + longest) * torch.arange(len(starts), device=device)[
        :, None
    ]
    return PackLayout(
        positions=positions,
        shared=shared,
        lengths=tuple(lengths),
        rows=torch.cat([common, own], dim=1),
        cells=torch.cat([torch.arange(shared, device=device), cells[real]]),
    )


class _Context(Protocol):
    """What autograd keeps for the way back."""

    layout: PackLayout
    shape: torch.Size


class _Spread(torch.autograd.Function):
    """Lay the tokens of a pack out as rows; [T, h] -> [n, L, h]. Padding has no gradient."""

    @staticmethod
    def forward(ctx: _Context, tokens: Tensor, layout: PackLayout) -> Tensor:
        ctx.layout = layout
        return tokens[layout.rows]

    @staticmethod
    def backward(ctx: _Context, *slopes: Tensor) -> tuple[Tensor, None]:
        layout, (slope,) = ctx.layout, slopes
        found = slope.reshape(-1, slope.shape[-1])[layout.cells]  # [T, h]
        if layout.shared:  # every row attended to the shared tokens: their gradients add up
            found[: layout.shared] = slope[:, : layout.shared].sum(0)
        return found, None


class _Gather(torch.autograd.Function):
    """Take the tokens of a pack back from rows; [n, L, h] -> [T, h]."""

    @staticmethod
    def forward(ctx: _Context, rows: Tensor, layout: PackLayout) -> Tensor:
        ctx.layout, ctx.shape = layout, rows.shape
        return rows.reshape(-1, rows.shape[-1])[layout.cells]

    @staticmethod
    def backward(ctx: _Context, *slopes: Tensor) -> tuple[Tensor, None]:
        found = slopes[0].new_zeros(ctx.shape)
        found.view(-1, ctx.shape[-1])[ctx.layout.cells] = slopes[0]
        return found, None


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: PackLayout | None = None,
    **options: Any,  # noqa: ANN401 - what transformers hands to every attention
) -> tuple[Tensor, None]:
    """Attend as PyTorch does, in a pack each record to itself and to the shared beginning.

    Args:
        module: The attention layer.
        query: [B, heads, L, d]; a pack has B = 1 and L = T, as have `key` and `value`.
        key: As `query`, perhaps with fewer heads.
        value: As `key`.
        attention_mask: None: causal. `NO_MASK` comes with a layout.
        layout: How the records of a pack lie.
        options: Scale, dropout and what else the model hands to every attention.

    Raises:
        LostLayoutError: A pack came without its layout.
    """
    if layout is None:
        if attention_mask is not None and attention_mask.numel() == 0:
            raise LostLayoutError
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    query, key, value = (
        _rows(tensor, layout) for tensor in (query, key, value)
    )  # [n, heads, L, d]
    found = _attend_rows(module, query, key, value, options)
    count, length, heads, width = found.shape
    tokens = _Gather.apply(found.reshape(count, length, heads * width), layout)
    return tokens.view(1, -1, heads, width), None  # type: ignore[union-attr]


def _attend_rows(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]
) -> Tensor:
    """Attend causally, [n, heads, L, d] -> [n, L, heads, d]."""
    # The short kernel has none of these.
    special = options.get("dropout") or options.get("softcap") or "position_bias" in options
    if is_short(query) and not special:
        scale = options.get("scaling") or query.shape[-1] ** -0.5
        return short_attention(query, key, value, scale).transpose(1, 2)
    options["is_causal"] = True
    found, _ = sdpa_attention_forward(module, query, key, value, None, **options)
    return found


def no_mask(device: torch.device) -> Tensor:
    """Return the mask that comes with a pack: none, in a shape that transformers leaves alone."""
    return torch.empty(1, 1, 0, 0, dtype=torch.bool, device=device)


def _rows(tensor: Tensor, layout: PackLayout) -> Tensor:
    """Lay out heads of a pack as rows; [1, heads, T, d] -> [n, heads, L, d]."""
    _, heads, tokens, width = tensor.shape
    flat = tensor[0].transpose(0, 1).reshape(tokens, heads * width)  # [T, heads d]
    rows = _Spread.apply(flat, layout)
    return rows.view(*layout.rows.shape, heads, width).transpose(1, 2)  # type: ignore[union-attr]


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
