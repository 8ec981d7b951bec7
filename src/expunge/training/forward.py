"""Observation: run the model once for all terms of a step, and give each what it declared.

Terms on different streams share a forward pass wherever they need the same height of the model;
a record that several of them read is computed once. `step_loss` yields one loss per micro-batch;
their sum over a step is the loss of the step, whatever the cut, because every term is divided by
its count over the whole step.

Log-probabilities of tokens, with gradient, a chunk of positions at a time.

    log p(y) = z_y - log sum exp z        d log p(y) / dz = one_hot(y) - softmax(z)

The slope is made in place of the log-probabilities that the forward pass kept, so that a chunk
holds its logits twice at most, where PyTorch's operations hold them three times.

Where the head E is frozen, the only slope that is wanted is that of what it reads,

    d log p(y) / dh = E_y - softmax(z) E

whatever the loss makes of log p(y), so each chunk takes it while its logits are there.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from expunge.data.tokenization import Encoded
from expunge.methods.base import (
    Answers,
    Distribution,
    Likelihood,
    Predictions,
    Representation,
    Side,
    Stream,
    Term,
)
from expunge.models.batching import Batch
from expunge.models.cpu_kernels import AutogradContext
from expunge.models.scoring import CHUNK
from expunge.models.transformer import ActivationPatch, ForwardOutput, Network, Site
from expunge.training.activation_cache import LowerStates
from expunge.training.distributed import WHOLE, Share
from expunge.training.early_stopping import Unseen
from expunge.training.reference_model import References, site_of
from expunge.training.sampler import BatchIndices, Streams


def chunked_logp(network: Network, hidden: Tensor, targets: Tensor) -> Tensor:
    """Return log p of the targets, [N, d] and [N] -> [N] float32.

    Where there are several chunks, memory does not grow with batch times vocabulary: their logits
    are computed again on the way back, or under a frozen head not needed there.

    Args:
        network: Whose head it is.
        hidden: What the head reads, with gradient.
        targets: Token ids.
    """

    def logp(rows: Tensor, wanted: Tensor) -> Tensor:
        return token_logp(network.logits(rows), wanted)

    if len(targets) <= CHUNK:
        return logp(hidden, targets)
    frozen = not any(weight.requires_grad for weight in network.head.parameters())
    if frozen and hidden.requires_grad and torch.is_grad_enabled():
        return _FrozenLogp.apply(hidden, targets, logp)  # type: ignore[return-value]
    pieces = zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
    return torch.cat([checkpoint(logp, h, t, use_reentrant=False) for h, t in pieces])


def token_logp(logits: Tensor, targets: Tensor) -> Tensor:
    """Return log p of one token a row, [n, V] and [n] -> [n]; its gradient can be taken once."""
    return _TokenLogp.apply(logits, targets)  # type: ignore[return-value]


class _FrozenLogp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: AutogradContext,
        hidden: Tensor,
        targets: Tensor,
        logp: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        found: list[Tensor] = []
        slopes: list[Tensor] = []
        for rows, wanted in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True):
            read = rows.detach().requires_grad_()
            with torch.enable_grad():
                own = logp(read, wanted)
                # Rows do not depend on each other, so the sum has the slope of each.
                own.sum().backward()
            assert read.grad is not None
            slopes.append(read.grad)
            found.append(own.detach())
        ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(found)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: AutogradContext, *slopes: Tensor
    ) -> tuple[Tensor, None, None]:
        (own,) = ctx.saved_tensors
        return (slopes[0].unsqueeze(-1) * own).to(own.dtype), None, None


class _TokenLogp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: AutogradContext, logits: Tensor, targets: Tensor) -> Tensor:
        log_probs = torch.log_softmax(logits, dim=-1)
        places = targets.unsqueeze(-1)
        ctx.save_for_backward(log_probs, places)
        return log_probs.gather(-1, places).squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: AutogradContext, *slopes: Tensor
    ) -> tuple[Tensor, None]:
        log_probs, places = ctx.saved_tensors
        slope = slopes[0].unsqueeze(-1)
        found = log_probs.exp_().mul_(-slope)
        return found.scatter_add_(-1, places, slope), None


class Part(NamedTuple):
    """The loss of one micro-batch and its share of each term's value."""

    loss: Tensor
    values: dict[str, float]
    """By term, without coefficient."""


class TermBatch(NamedTuple):
    """Records that belong together, one of each stream of some terms."""

    streams: tuple[Stream, ...]
    records: tuple[Encoded, ...]


class Run(NamedTuple):
    """What one forward pass is for."""

    terms: tuple[Term, ...]
    top: int | None
    """The highest block that they need, None for the whole trunk."""
    real: bool
    """False where a process only keeps step with the others."""


class _Look(NamedTuple):
    """One forward pass over some records, each of them once."""

    batch: Batch
    seen: ForwardOutput
    spans: dict[Encoded, slice]
    """Where the scored positions of each record lie among those of the batch."""


class _Group(NamedTuple):
    """What terms on the same streams see: column s holds the records of stream s."""

    columns: list[tuple[Encoded, ...]]
    records: list[Encoded]
    places: Tensor
    """[n] their scored positions among those of the batch, column by column."""
    look: _Look

    @property
    def targets(self) -> Tensor:
        """[n] the scored tokens."""
        return self.look.batch.targets[self.places]


@dataclass(frozen=True, kw_only=True, slots=True)
class TermEvaluator:
    """Evaluates the terms of a method on the records of a step."""

    network: Network
    terms: tuple[Term, ...]
    streams: Streams
    references: References
    pad_id: int
    lower: LowerStates | None = None
    """Known states under the lowest trained block."""
    share: Share = WHOLE
    """The part of each step that this process takes; counts are those of the whole step."""
    unseen: Unseen | None = None
    """Levels of the forget records, for terms that ask."""
    push: Callable[[Batch, Tensor], ActivationPatch] | None = None
    """Moves states of a batch, told for each scored token whether it is of a forget answer (1) or
    not (-1)."""

    def step_loss(
        self,
        draw: BatchIndices,
        *,
        coefs: Mapping[str, float],
        tokens_per_pass: int,
        side: Side | None = None,
    ) -> Iterator[Part]:
        """Yield the loss of each micro-batch of a step, with gradient.

        Args:
            draw: The records of the step.
            coefs: Coefficient of each term, by name.
            tokens_per_pass: Largest number of padded tokens in one forward pass.
            side: Only the terms on this side.
        """
        wanted = [term for term in self.terms if side in (None, term.streams[0].side)]
        counts = {
            streams: _counts(_items(self.streams, streams, draw)) for streams in _streams(wanted)
        }
        passes = forward_passes(
            wanted, self.streams, draw, tokens_per_pass=tokens_per_pass, share=self.share
        )
        for run, items in passes:
            part = self._micro_batch(run.terms, items, counts, coefs, draw)
            yield part if run.real else Part(0.0 * part.loss, {})

    def _micro_batch(
        self,
        terms: Sequence[Term],
        items: Sequence[TermBatch],
        counts: Mapping[tuple[Stream, ...], Mapping[str, int]],
        coefs: Mapping[str, float],
        draw: BatchIndices,
    ) -> Part:
        look = self._look(terms, items)
        groups = {streams: _group(look, items, streams) for streams in _streams(terms)}
        logps: dict[tuple[tuple[Stream, ...], int | None], Tensor] = {}
        sums: list[tuple[Term, Tensor]] = []
        for term in terms:
            group = groups[term.streams]
            match term:
                case Likelihood():
                    known = (term.streams, term.layer)
                    if known not in logps:
                        hidden = self._final(group, term.layer)
                        logps[known] = chunked_logp(self.network, hidden, group.targets)
                    sums.append((term, term.loss(*self._answers(term, group, logps[known]))))
                case Distribution():
                    sums.append((term, self._distribution(term, group, draw)))
                case Representation():
                    sums.append((term, self._representation(term, group)))
        scaled = [(term.name, total / counts[term.streams][term.per]) for term, total in sums]
        loss = torch.stack([coefs[name] * value for name, value in scaled]).sum()
        return Part(loss, {name: float(value.detach()) for name, value in scaled})

    def _look(self, terms: Sequence[Term], items: Sequence[TermBatch]) -> _Look:
        """Run the model once, as far up as the highest term needs."""
        records = list(dict.fromkeys(record for item in items for record in item.records))
        # Who moves states moves those of each record by itself, at its beginning too.
        batch = self.network.batch(records, pad_id=self.pad_id, share=self.push is None)
        sites = {site_of(term) for term in terms if isinstance(term, Representation)}
        lenses = {term.layer for term in terms if not isinstance(term, Representation)}
        sites |= {Site(layer) for layer in lenses if layer is not None}
        final = _height(terms) is None
        below = None if self.lower is None else self.lower.states(records, batch)
        push = None if self.push is None else self.push(batch, _signs(items, records).to(batch.ids))
        seen = self.network.observe(
            batch.ids, sites=sites, final=final, below=below, push=push, layout=batch.layout
        )
        spans: dict[Encoded, slice] = {}
        start = 0
        for record in records:
            stop = start + len(record.ids) - record.start
            spans[record] = slice(start, stop)
            start = stop
        return _Look(batch, seen, spans)

    def _final(self, group: _Group, layer: int | None) -> Tensor:
        """Return what the head reads at scored positions of a group, [n, d]."""
        batch, seen = group.look.batch, group.look.seen
        rows, columns = batch.rows[group.places], batch.columns[group.places]
        if layer is not None:
            return self.network.lens(seen.states[Site(layer)][rows, columns])
        if seen.final is None:
            raise AssertionError("the forward pass ended below the head")
        return seen.final[rows, columns]

    def _answers(self, term: Likelihood, group: _Group, logp: Tensor) -> list[Answers]:
        sizes = [sum(len(r.ids) - r.start for r in column) for column in group.columns]
        views: list[Answers] = []
        for column, part in zip(group.columns, logp.split(sizes), strict=True):
            lengths = torch.tensor([len(r.ids) - r.start for r in column], device=logp.device)
            reference = None
            if term.needs_reference:
                reference = torch.cat([self.references.logp(r) for r in column]).to(logp.device)
            views.append(
                Answers(
                    logp=part,
                    reference=reference,
                    sequence=torch.arange(len(column), device=logp.device).repeat_interleave(
                        lengths
                    ),
                    size=len(column),
                    unseen=self._levels(column, logp.device) if term.needs_level else None,
                )
            )
        return views

    def _levels(self, column: Sequence[Encoded], device: torch.device) -> Tensor:
        assert self.unseen is not None, "who trains knows what was never seen"
        chance = math.log(self.network.vocabulary)
        return torch.tensor(
            [min(self.unseen.level(record.record), chance) for record in column], device=device
        )

    def _distribution(self, term: Distribution, group: _Group, draw: BatchIndices) -> Tensor:
        hidden = self._final(group, term.layer)
        known, others = self._known(term, group, draw)
        places = [torch.arange(len(record.ids) - record.start) for record in group.records]
        where = torch.cat(places).to(hidden.device)

        secret, similar, expected = self._secrets(group, hides=term.hides)
        whose = (*term.references, *([None] if term.reinforced else []))

        def total(
            policy: Tensor,
            targets: Tensor,
            place: Tensor,
            hide: Tensor,
            like: Tensor,
            plain: Tensor,
            *rest: Tensor,
        ) -> Tensor:
            tokens, frozen = rest[: len(others)], rest[len(others) :]
            references = tuple(map(self.references.logits, frozen, whose))
            logits = self.network.logits(policy)
            marks = (hide, like, plain) if like.shape[1] else (None, None, None)
            seen = Predictions(logits, targets, place, references, tokens, *marks)
            return term.loss(seen).sum()

        marks = (each.to(hidden.device) for each in (secret, similar, expected))
        columns = (hidden, group.targets, where, *marks, *others, *known)
        if len(hidden) <= CHUNK:
            return total(*columns)
        parts = [
            checkpoint(total, *pieces, use_reentrant=False)
            for pieces in zip(*(column.split(CHUNK) for column in columns), strict=True)
        ]
        return torch.stack(parts).sum()

    def _known(
        self, term: Distribution, group: _Group, draw: BatchIndices
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Last hidden states of the original that a distribution term declared, [N, d] each.

        And the scored tokens of each of its streams, [N].
        """
        own = self.streams.drawn(term.streams[0], draw)
        device = self.network.device
        known: list[Tensor] = []
        tokens: list[Tensor] = []
        for stream in term.references:
            partner = dict(zip(own, self.streams.drawn(stream, draw), strict=True))
            others = [partner[record] for record in group.records]
            known.append(torch.cat([self.references.hidden(other) for other in others]).to(device))
            tokens.append(torch.tensor(_scored(others), device=device))
        if term.reinforced:
            states = [self.references.strengthened(record) for record in group.records]
            known.append(torch.cat(states).to(device))
        return known, tokens

    def _secrets(self, group: _Group, *, hides: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return secret tokens of the scored positions, [N], tokens like them, [N, K], and levels.

        These are what is expected of a model that never saw the record, [N]. K is 0 where the term
        does not ask, or no record marks any; then levels are [N, 0].
        """
        tokens = [
            token
            for record in group.records
            for token in record.secret or (-1,) * (len(record.ids) - record.start)
        ]
        secret = torch.tensor(tokens)
        if not hides or int(secret.max()) < 0:
            return (
                secret,
                torch.empty(len(tokens), 0, dtype=torch.long),
                torch.empty(len(tokens), 0),
            )
        none = torch.zeros_like(next(iter(self.references.similar.values())))
        similar = torch.stack([self.references.similar.get(token, none) for token in tokens])
        levels = torch.tensor([x for record in group.records for x in expected_of(record)])
        return secret, similar, levels

    def _representation(self, term: Representation, group: _Group) -> Tensor:
        site, batch = site_of(term), group.look.batch
        rows, columns = batch.rows[group.places], batch.columns[group.places]
        states = group.look.seen.states[site][rows, columns]
        reference = None
        if term.needs_reference:
            kept = [self.references.state(record, site) for record in group.records]
            reference = torch.cat(kept).to(states.device)
        if term.per == "token":
            return term.loss(states, reference).sum()
        sizes = [len(record.ids) - record.start for record in group.records]
        known = [None] * len(sizes) if reference is None else reference.split(sizes)
        parts = zip(states.split(sizes), known, strict=True)
        return torch.stack([term.loss(own, other).sum() for own, other in parts]).sum()


def expected_of(record: Encoded) -> tuple[float, ...]:
    """Return what is expected of each scored token of a record, NaN where it is not known."""
    return record.expected or (math.nan,) * (len(record.ids) - record.start)


def _scored(records: Sequence[Encoded]) -> list[int]:
    return [token for record in records for token in record.ids[record.start :]]


def forward_passes(
    terms: Sequence[Term],
    streams: Streams,
    draw: BatchIndices,
    *,
    tokens_per_pass: int,
    share: Share = WHOLE,
) -> Iterator[tuple[Run, list[TermBatch]]]:
    """Cut the records of a step into forward passes, each for all terms of one height.

    Args:
        terms: The terms to evaluate.
        streams: Where their records come from.
        draw: The records of the step.
        tokens_per_pass: Largest number of padded tokens in one forward pass.
        share: The part of the step that this process takes.
    """
    heights: dict[int | None, list[Term]] = {}
    for names in _streams(terms):
        together = [term for term in terms if term.streams == names]
        heights.setdefault(_height(together), []).extend(together)
    for top, together in heights.items():
        pool = [item for names in _streams(together) for item in _items(streams, names, draw)]
        lengths = [max(len(r.ids) for r in item.records) * len(item.records) for item in pool]
        for cut in share.cut(lengths, tokens=tokens_per_pass):
            items = [pool[index] for index in cut.indices]
            present = {item.streams for item in items}
            used = tuple(term for term in together if term.streams in present)
            yield Run(used, top, cut.real), items


def _items(streams: Streams, names: tuple[Stream, ...], draw: BatchIndices) -> list[TermBatch]:
    columns = [streams.drawn(stream, draw) for stream in names]
    return [TermBatch(names, records) for records in zip(*columns, strict=True)]


def _streams(terms: Sequence[Term]) -> list[tuple[Stream, ...]]:
    return list(dict.fromkeys(term.streams for term in terms))


def _height(terms: Sequence[Term]) -> int | None:
    """Return the highest block that terms need, None for the whole trunk."""
    layers: list[int] = []
    for term in terms:
        if term.layer is None:
            return None
        layers.append(term.layer)
    return max(layers)


def _signs(items: Sequence[TermBatch], records: Sequence[Encoded]) -> Tensor:
    """Return 1 for scored tokens of forget answers, -1 for others, [N] in the order of records."""
    forget = {
        record
        for item in items
        for stream, record in zip(item.streams, item.records, strict=True)
        if stream is Stream.FORGET
    }
    signs = [1 if record in forget else -1 for record in records]
    lengths = [len(record.ids) - record.start for record in records]
    return torch.tensor(signs).repeat_interleave(torch.tensor(lengths))


def _counts(items: Sequence[TermBatch]) -> dict[str, int]:
    tokens = sum(len(r.ids) - r.start for item in items for r in item.records)
    return {"token": tokens, "sequence": len(items)}


def _group(look: _Look, items: Sequence[TermBatch], streams: tuple[Stream, ...]) -> _Group:
    tuples = [item.records for item in items if item.streams == streams]
    columns = list(zip(*tuples, strict=True))
    records = [record for column in columns for record in column]
    spans = [look.spans[record] for record in records]
    places = torch.cat([torch.arange(span.start, span.stop) for span in spans])
    return _Group(columns, records, places.to(look.batch.targets.device), look)
