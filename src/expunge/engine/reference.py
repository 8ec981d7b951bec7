"""References: what the original model says, computed once before step 0, never by a second model.

Scalars per token for likelihood terms, last hidden states for divergence terms (31 to 99 times
smaller than logits, and exact), states after one block for representation terms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from expunge.data.encode import Encoded
from expunge.errors import UsageError
from expunge.methods.terms import Divergence, Likelihood, Representation, Stream, Term
from expunge.model.batch import by_length, collate
from expunge.model.network import Network
from expunge.model.score import score

Key = tuple[tuple[int, ...], int]


@dataclass(frozen=True, kw_only=True, slots=True)
class References:
    """Frozen values of the original, by the tokens of a record."""

    network: Network
    head: Tensor | None
    """A frozen copy of the head's weight where the head is trained, else None."""
    logps: Mapping[Key, Tensor]
    hiddens: Mapping[Key, Tensor]
    states: Mapping[tuple[Key, int], Tensor]

    def logp(self, record: Encoded) -> Tensor:
        """Return log-probabilities of the scored tokens, [T]."""
        return self.logps[_key(record)]

    def hidden(self, record: Encoded) -> Tensor:
        """Return last hidden states at scored positions, [T, d]."""
        return self.hiddens[_key(record)]

    def state(self, record: Encoded, layer: int) -> Tensor:
        """Return states after block `layer` at scored positions, [T, d]."""
        return self.states[_key(record), layer]

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """Apply the original's head to its hidden states, [n, d] -> [n, V] float32."""
        if self.head is None:
            return self.network.logits(hidden)
        return functional_call(self.network.head, {"weight": self.head}, (hidden,)).to(
            torch.promote_types(hidden.dtype, torch.float32)
        )


def precompute(
    network: Network,
    terms: Sequence[Term],
    records: Mapping[Stream, Sequence[Encoded]],
    *,
    pad_id: int,
    tokens_per_pass: int,
) -> References:
    """Compute what the terms declare, for the records that the run will draw.

    Must run before the first step: the network still is the original.

    Raises:
        UsageError: The original's distribution cannot be kept for this model and choice of weights.
    """
    logps: dict[Key, Tensor] = {}
    hiddens: dict[Key, Tensor] = {}
    states: dict[tuple[Key, int], Tensor] = {}
    divergence = False
    for term in terms:
        if not term.needs_reference:
            continue
        pool = [record for stream in term.streams for record in records[stream]]
        match term:
            case Likelihood():
                fresh = [record for record in pool if _key(record) not in logps]
                scores = score(network, fresh, pad_id=pad_id, tokens_per_pass=tokens_per_pass)
                logps.update({_key(r): s.logp for r, s in zip(fresh, scores, strict=True)})
            case Divergence():
                divergence = True
                hiddens.update(_states(network, pool, None, pad_id, tokens_per_pass))
            case Representation():
                found = _states(network, pool, term.layer, pad_id, tokens_per_pass)
                states.update({(key, term.layer): value for key, value in found.items()})
    weight = network.head.get_parameter("weight")
    frozen = weight.detach().clone() if divergence and weight.requires_grad else None
    if frozen is not None and not network.has_plain_head:
        raise UsageError(
            "kl-with-trained-head",
            what="this model bends its logits after the head, and the head is being trained",
            why="the original's distribution could not be rebuilt from its hidden states",
            fix='train an adapter, or set retain = "nll" in [method]',
        )
    return References(network=network, head=frozen, logps=logps, hiddens=hiddens, states=states)


@torch.no_grad()
def _states(
    network: Network, pool: Sequence[Encoded], layer: int | None, pad_id: int, tokens: int
) -> dict[Key, Tensor]:
    found: dict[Key, Tensor] = {}
    for group in by_length([len(record.ids) for record in pool], tokens=tokens):
        chosen = [pool[index] for index in group]
        batch = collate(chosen, pad_id=pad_id, device=network.device)
        if layer is None:
            rows = network.hidden(batch.ids, batch.rows, batch.columns)
        else:
            rows = network.hidden_after(batch.ids, layer)[batch.rows, batch.columns]
        sizes = [len(record.ids) - record.start for record in chosen]
        for record, part in zip(chosen, rows.cpu().split(sizes), strict=True):
            found[_key(record)] = part.clone()
    return found


def _key(record: Encoded) -> Key:
    return (record.ids, record.start)
