"""Observation: run the model once for all terms that share streams, and give each what it declared.

`step_loss` yields one loss per micro-batch; their sum over a step is the loss of the step, whatever
the cut, because every term is divided by its count over the whole step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from expunge.data.encode import Encoded
from expunge.engine.reference import References
from expunge.engine.streams import Draw, Streams
from expunge.methods.terms import (
    Answers,
    Divergence,
    Likelihood,
    Representation,
    Stream,
    Term,
)
from expunge.model.batch import Batch, by_length, collate
from expunge.model.network import Network
from expunge.model.score import CHUNK


class Part(NamedTuple):
    """The loss of one micro-batch and its share of each term's value."""

    loss: Tensor
    values: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Observer:
    """Evaluates the terms of a method on the records of a step."""

    network: Network
    terms: tuple[Term, ...]
    streams: Streams
    references: References
    pad_id: int

    def step_loss(self, draw: Draw, *, tokens_per_pass: int) -> Iterator[Part]:
        """Yield the loss of each micro-batch of a step, with gradient.

        Args:
            draw: The records of the step.
            tokens_per_pass: Largest number of padded tokens in one forward pass.
        """
        for streams in dict.fromkeys(term.streams for term in self.terms):
            terms = [term for term in self.terms if term.streams == streams]
            tuples = self._tuples(streams, draw)
            if not tuples:
                continue
            tokens = sum(len(r.ids) - r.start for group in tuples for r in group)
            counts = {"token": tokens, "sequence": len(tuples)}
            lengths = [max(len(r.ids) for r in group) * len(group) for group in tuples]
            for indices in by_length(lengths, tokens=tokens_per_pass):
                yield self._micro_batch(terms, [tuples[index] for index in indices], counts)

    def _tuples(self, streams: tuple[Stream, ...], draw: Draw) -> list[tuple[Encoded, ...]]:
        columns = [self.streams.drawn(stream, draw) for stream in streams]
        return list(zip(*columns, strict=True))

    def _micro_batch(
        self, terms: Sequence[Term], tuples: list[tuple[Encoded, ...]], counts: dict[str, int]
    ) -> Part:
        columns = list(zip(*tuples, strict=True))
        records = [record for column in columns for record in column]
        batch = collate(records, pad_id=self.pad_id, device=self.network.device)
        likelihoods = [term for term in terms if isinstance(term, Likelihood)]
        divergences = [term for term in terms if isinstance(term, Divergence)]
        representations = [term for term in terms if isinstance(term, Representation)]
        sums: list[tuple[Term, Tensor]] = []
        if likelihoods or divergences:
            hidden = self.network.hidden(batch.ids, batch.rows, batch.columns)
            if likelihoods:
                logp = chunked_logp(self.network, hidden, batch.targets)
                sums += [(t, t.loss(*self._answers(t, columns, logp))) for t in likelihoods]
            sums += [(t, self._divergence(t, records, hidden)) for t in divergences]
        sums += [(t, self._representation(t, records, batch)) for t in representations]
        scaled = [(term.name, term.coef / counts[term.per] * total) for term, total in sums]
        loss = torch.stack([value for _, value in scaled]).sum()
        return Part(loss, {name: float(value.detach()) for name, value in scaled})

    def _answers(
        self, term: Likelihood, columns: list[tuple[Encoded, ...]], logp: Tensor
    ) -> list[Answers]:
        sizes = [sum(len(r.ids) - r.start for r in column) for column in columns]
        views: list[Answers] = []
        for column, part in zip(columns, logp.split(sizes), strict=True):
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
                )
            )
        return views

    def _divergence(self, term: Divergence, records: list[Encoded], hidden: Tensor) -> Tensor:
        reference = torch.cat([self.references.hidden(r) for r in records]).to(hidden.device)

        def total(policy: Tensor, frozen: Tensor) -> Tensor:
            return term.loss(self.network.logits(policy), self.references.logits(frozen)).sum()

        pairs = zip(hidden.split(CHUNK), reference.split(CHUNK), strict=True)
        parts = [checkpoint(total, p, f, use_reentrant=False) for p, f in pairs]
        return torch.stack(parts).sum()

    def _representation(self, term: Representation, records: list[Encoded], batch: Batch) -> Tensor:
        states = self.network.hidden_after(batch.ids, term.layer)[batch.rows, batch.columns]
        reference = None
        if term.needs_reference:
            kept = [self.references.state(record, term.layer) for record in records]
            reference = torch.cat(kept).to(states.device)
        return term.loss(states, reference).sum()


def chunked_logp(network: Network, hidden: Tensor, targets: Tensor) -> Tensor:
    """Return log p of the targets, [N, d] and [N] -> [N] float32.

    Logits exist for one chunk of positions at a time and are computed again on the way back, so
    memory does not grow with batch times vocabulary.
    """

    def logp(rows: Tensor, wanted: Tensor) -> Tensor:
        log_probs = torch.log_softmax(network.logits(rows), dim=-1)
        return log_probs.gather(-1, wanted.unsqueeze(-1)).squeeze(-1)

    if len(targets) <= CHUNK:
        return logp(hidden, targets)
    pieces = zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
    return torch.cat([checkpoint(logp, h, t, use_reentrant=False) for h, t in pieces])
