"""What counterfactual distillation draws each record to, and how far below similar tokens.

    log q_t(y_t) = min(own_t, level_t - margin)      see `methods.counterfactual_target`

The mean of two strangers stands for what the original would say of the subject. Where people wrote
records that no model saw, the margin is the one by which the forget records end as likely as these
are under the original, and by a little more, as a training ends short of its target:

    mean_i (1/T_i) sum_t log q_t(y_t) = aim mean_i level(i)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.data.tokenization import Encoded
from expunge.methods.base import Stream
from expunge.methods.counterfactual_target import target_levels
from expunge.models.transformer import Network
from expunge.training.activation_cache import key
from expunge.training.reference_model import final_states, similar_tokens
from expunge.training.sampler import Streams

STRANGERS = 2
"""Strangers whose mean is the level of a record."""
STEEPEST = 4.0
"""Largest margin either way, nats a token."""
HALVINGS = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetLevels:
    """A forget record, and what the original says of strangers in its place."""

    record: Encoded
    places: tuple[int, ...]
    """Scored tokens that must reach a level: the secret ones, where there are any."""
    same: tuple[int, ...]
    """Scored tokens that are the same for the subject and the strangers."""
    levels: tuple[tuple[Tensor, Tensor], ...]
    """For each stranger `own` and `level` at `same`, nats, [n] each, see `target_levels`."""

    def targets(self, margin: float) -> Tensor:
        """Return the target's log-probability of the tokens at `same`, [n], nats."""
        return torch.stack([torch.minimum(own, up - margin) for own, up in self.levels]).mean(0)

    def level(self, margin: float) -> float:
        """Return the target's log-probability of all tokens that must reach a level, nats."""
        return sum(
            value
            for place, value in zip(self.same, self.targets(margin).tolist(), strict=True)
            if place in self.places
        )

    def mean(self, margin: float) -> float:
        """Return the record's log-probability at its target, nats per token."""
        return float(self.targets(margin).sum()) / (len(self.record.ids) - self.record.start)


def read_levels(
    network: Network, streams: Streams, *, pad_id: int, tokens_per_pass: int
) -> list[TargetLevels]:
    """Ask the original about the strangers of each forget record.

    Args:
        network: The original.
        streams: With the stream of strangers.
        pad_id: Fills short rows.
        tokens_per_pass: Most tokens of one forward pass.
    """
    asked = [records[:STRANGERS] for records in streams.variants[Stream.STRANGER]]
    states = final_states(
        network,
        [each for several in asked for each in several],
        pad_id=pad_id,
        tokens_per_pass=tokens_per_pass,
    )
    similar = similar_tokens(network, {t for own in streams.forget for t in own.secret})
    found: list[TargetLevels] = []
    for own, strangers in zip(streams.forget, asked, strict=True):
        same = _same(own, strangers)
        secret = tuple(place for place in same if own.secret and own.secret[place] >= 0)
        levels = tuple(
            _levels(network, states[key(each)][list(same)], own, same, similar)
            for each in strangers
        )
        found.append(TargetLevels(record=own, places=secret or same, same=same, levels=levels))
    return found


def margin_for(records: Sequence[TargetLevels], wanted: float) -> float:
    """Return the margin at which the records' targets have a mean, by bisection.

    Args:
        records: What their targets are made of.
        wanted: Mean over records of the log-probability per token, nats.

    Returns:
        Nats a token; the largest margin either way where the mean is out of reach.
    """
    low, high = -STEEPEST, STEEPEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if sum(each.mean(middle) for each in records) > wanted * len(records):
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _same(own: Encoded, strangers: Sequence[Encoded]) -> tuple[int, ...]:
    columns = zip(*(each.ids[each.start :] for each in (own, *strangers)), strict=True)
    return tuple(place for place, tokens in enumerate(columns) if len(set(tokens)) == 1)


@torch.no_grad()
def _levels(
    network: Network,
    states: Tensor,
    own: Encoded,
    same: Sequence[int],
    similar: Mapping[int, Tensor],
) -> tuple[Tensor, Tensor]:
    """Return what the target of a record's tokens at `same` is made of, [n] each, on the CPU."""
    tokens = [own.ids[own.start + place] for place in same]
    secret = [own.secret[place] if own.secret else -1 for place in same]
    marks: tuple[Tensor | None, Tensor | None] = (None, None)
    if max(secret, default=-1) >= 0:
        none = torch.zeros_like(next(iter(similar.values())))
        like = torch.stack([similar.get(token, none) for token in secret])  # [n, K]
        marks = (torch.tensor(secret), like.cpu())
    logits = network.logits(states.to(network.device)).float().cpu()  # [n, V]
    return target_levels(logits, torch.tensor(tokens), *marks)
