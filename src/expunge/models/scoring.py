"""Scoring: one teacher-forced pass that feeds every likelihood metric."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from expunge.data.tokenization import Encoded
from expunge.models.batching import Batch, by_beginning, by_length, in_parts
from expunge.models.guarded import GuardedOutputs, admitted
from expunge.models.transformer import CachedStates, Network

CHUNK = 512
"""Scored positions whose logits exist at the same time."""


Known = Callable[[Sequence[Encoded], Batch], CachedStates | None]
"""Returns the states of a batch below some block, where they are cached for all its records."""


class TokenScores(NamedTuple):
    """Scores of one model for the scored tokens of one record; float32 tensors of length T."""

    logp: Tensor
    """Log-probability of each token, nats."""
    hit: Tensor
    """Whether the token is the arg-max (boolean)."""
    z: Tensor
    """(log p - mu) / sd with mu, sd the mean and deviation of log p over the vocabulary under p;
    empty where it was not requested."""


@torch.no_grad()
def score(
    network: Network,
    records: Sequence[Encoded],
    *,
    pad_id: int,
    tokens_per_pass: int,
    known: Known | None = None,
    with_z: bool = True,
) -> list[TokenScores]:
    """Score every scored token of every record, in the order given.

    Args:
        network: The model, in evaluation mode; its guard, if any, is applied.
        records: Encoded records.
        pad_id: Any token id; padding is never seen.
        tokens_per_pass: Largest number of padded tokens in one forward pass; where memory is full
            the pass is halved.
        known: Where states may be known already.
        with_z: Whether to compute z, which costs more than all else but the model; else it is
            empty.
    """
    records, meant = admitted(network, records, tokens=tokens_per_pass)
    results: list[TokenScores | None] = [None] * len(records)

    def one_pass(group: Sequence[int]) -> None:
        chosen = [records[index] for index in group]
        batch = network.batch(chosen, pad_id=pad_id)
        below = None if known is None else known(chosen, batch)
        hidden = network.hidden(
            batch.ids, batch.rows, batch.columns, layout=batch.layout, below=below
        )
        outputs = GuardedOutputs(network, batch, chosen, [meant[index] for index in group])
        parts = [
            _statistics(outputs.logits(rows, place * CHUNK), targets, with_z=with_z)
            for place, (rows, targets) in enumerate(
                zip(hidden.split(CHUNK), batch.targets.split(CHUNK), strict=True)
            )
        ]
        logp, hit, z = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
        start = 0
        for index, record in zip(group, chosen, strict=True):
            stop = start + len(record.ids) - record.start
            results[index] = TokenScores(logp[start:stop], hit[start:stop], z[start:stop])
            start = stop

    for group in _groups(records, tokens=tokens_per_pass, packed=network.packs_up_to):
        in_parts(group, one_pass)
    return [result for result in results if result is not None]


def _groups(records: Sequence[Encoded], *, tokens: int, packed: int) -> Iterator[list[int]]:
    """Group records of similar length, those that begin alike together: a pack reads that once.

    Args:
        records: Encoded records.
        tokens: Largest number of padded tokens in one group.
        packed: The longest record that may be packed; longer ones share nothing.
    """
    lengths = [len(record.ids) for record in records]
    if max(lengths, default=0) > packed:
        yield from by_length(lengths, tokens=tokens)
        return
    # The token before a scored one predicts it, so no pack shares it.
    for _, rows in by_beginning([record.ids[: record.start] for record in records]):
        own = [lengths[row] for row in rows]
        yield from ([rows[place] for place in group] for group in by_length(own, tokens=tokens))


def _statistics(logits: Tensor, targets: Tensor, *, with_z: bool) -> TokenScores:
    log_probs = torch.log_softmax(logits, dim=-1)
    logp = log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    hit = logits.argmax(dim=-1) == targets
    if not with_z:
        return TokenScores(logp, hit, logp[:0])
    probs = log_probs.exp()
    mean = (probs * log_probs).sum(-1)
    variance = (probs * log_probs.square()).sum(-1) - mean.square()
    return TokenScores(logp, hit, (logp - mean) / variance.clamp(min=1e-6).sqrt())
