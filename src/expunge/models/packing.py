"""Packing: records laid end to end without padding, what all begin with laid down once.

    pack        shared | rest of record 0 | rest of record 1 | ...          T tokens
    attention   row i:   shared | rest of record i | padding                 [n, L]

Linear layers, norms and the head see the T tokens of a pack and no padding. Attention alone is
computed by record: queries, keys and values are laid out as rows, where causality is plain, no
record sees another, and the gradient of the shared beginning is the sum over the records that
attend to it. So a pack computes exactly what the records give one by one.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from expunge.data.tokenization import Encoded
from expunge.models.batching import Batch, PackLayout, shared_beginning
from expunge.models.cpu_kernels import is_short, short_attention

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
