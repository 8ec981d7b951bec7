"""What counterfactual distillation draws each record to, and how far below similar tokens.

    log q_t(y_t) = min(own_t, level_t - margin)  where y_t is secret, else own_t, softened by T
    see `methods.counterfactual_target`

The mean of two strangers stands for what the original would say of the subject. Where people wrote
records that no model saw, margin and T are those by which secret tokens, and all others, end as
likely as the same kind of token of these is under the original, and by a little more, as a
training ends short of its target:

    sum_i sum_t log q_t(y_t) = -aim sum_i n_i nll_i      over secret tokens, and over others

Kinds of tokens are told apart because sets differ in how much of their text is facts.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from expunge.data.records import Record
from expunge.data.tokenization import Encoded
from expunge.methods.base import Stream
from expunge.methods.counterfactual_target import softened, target_levels
from expunge.models.transformer import Network
from expunge.training.activation_cache import key
from expunge.training.reference_model import final_states, similar_tokens
from expunge.training.sampler import Streams

STRANGERS = 2
"""Strangers whose mean is the level of a record."""
STEEPEST = 4.0
"""Largest margin either way, nats a token."""
HALVINGS = 12
TEMPERATURES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Temperatures at which likelihoods are known; between them they are drawn straight."""


class Likelihoods(NamedTuple):
    """What the original says of the tokens of one stranger's record, nats."""

    own: Tensor
    """Log-probability of each token, [n]."""
    level: Tensor
    """That of tokens like it, infinite where it is no secret, [n]."""
    soft: Tensor
    """Log-probability of each token at each of `TEMPERATURES`, [n, G]."""

    def targets(self, margin: float, temperature: float) -> Tensor:
        """Return the target's log-probability of each token, [n]."""
        after = bisect_left(TEMPERATURES, temperature, lo=1, hi=len(TEMPERATURES) - 1)
        low, high = TEMPERATURES[after - 1], TEMPERATURES[after]
        share = (temperature - low) / (high - low)
        others = (1 - share) * self.soft[:, after - 1] + share * self.soft[:, after]
        secret = torch.minimum(self.own, self.level - margin)
        return torch.where(self.level.isinf(), others, secret)


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetLevels:
    """A forget record, and what the original says of strangers in its place."""

    record: Encoded
    same: tuple[int, ...]
    """Scored tokens that are the same for the subject and the strangers."""
    levels: tuple[Likelihoods, ...]
    """Of each stranger, at `same`."""

    def targets(self, margin: float, temperature: float = 1.0) -> Tensor:
        """Return the target's log-probability of the tokens at `same`, [n], nats."""
        return torch.stack([each.targets(margin, temperature) for each in self.levels]).mean(0)

    def level(self, margin: float, temperature: float = 1.0) -> float:
        """Return the target's log-probability of all these tokens, nats."""
        return float(self.targets(margin, temperature).sum())

    @property
    def secret(self) -> Tensor:
        """Which of the tokens at `same` are secrets, [n]."""
        return ~self.levels[0].level.isinf()


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
        levels = tuple(
            _levels(network, states[key(each)][list(same)], own, same, similar)
            for each in strangers
        )
        found.append(TargetLevels(record=own, same=same, levels=levels))
    return found


def token_levels(
    forget: Sequence[Record],
    logps: Sequence[Sequence[float]],
    marks: Sequence[Sequence[int]],
    alike: Mapping[str, Sequence[int]],
) -> dict[str, tuple[float, float]]:
    """Return for each forget record the mean NLL of unseen tokens, secret ones and others, nats.

    Args:
        forget: The forget records.
        logps: Log-probabilities of the scored tokens of each unseen record.
        marks: The secret token at each place, -1 where there is none.
        alike: By forget record, the indices of those that ask the same; where these have no token
            of a kind, all count.
    """

    def mean(indices: Iterable[int], *, secret: bool) -> float | None:
        values = [
            -logp
            for index in indices
            for logp, mark in zip(logps[index], marks[index], strict=True)
            if (mark >= 0) is secret
        ]
        return sum(values) / len(values) if values else None

    every = [mean(range(len(logps)), secret=kind) or 0.0 for kind in (True, False)]
    found: dict[str, tuple[float, float]] = {}
    for record in forget:
        own = [mean(alike.get(record.id, ()), secret=kind) for kind in (True, False)]
        secret, rest = (e if o is None else o for o, e in zip(own, every, strict=True))
        found[record.id] = secret, rest
    return found


class Calibration(NamedTuple):
    """What the targets of a run are set by."""

    margin: float
    temperature: float


def calibrated(
    records: Sequence[TargetLevels], tokens: Mapping[str, tuple[float, float]], *, aim: float
) -> Calibration:
    """Return margin and temperature at which targets are as likely as unseen tokens of their kind.

    Args:
        records: What their targets are made of.
        tokens: By record: mean NLL of unseen tokens that are secret, and of others, nats.
        aim: Factor on both.

    Returns:
        The margin in nats a token, and the temperature; the last of the range where the level is
        out of reach. No temperature makes a token likelier.
    """
    wanted = [0.0, 0.0]
    for each in records:
        secrets = int(each.secret.sum())
        level = tokens[each.record.record]
        wanted[0] -= aim * secrets * level[0]
        wanted[1] -= aim * (len(each.same) - secrets) * level[1]

    def secret(margin: float) -> float:
        return sum(float(each.targets(margin)[each.secret].sum()) for each in records)

    def others(temperature: float) -> float:
        return sum(float(each.targets(0.0, temperature)[~each.secret].sum()) for each in records)

    some = any(bool(each.secret.any()) for each in records)
    return Calibration(
        margin=_where(secret, wanted[0], -STEEPEST, STEEPEST) if some else 0.0,
        temperature=_where(others, wanted[1], TEMPERATURES[0], TEMPERATURES[-1]),
    )


def _where(falling: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """Return where a falling function has a value, by bisection."""
    if falling(low) <= wanted:
        return low
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if falling(middle) > wanted:
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
) -> Likelihoods:
    """Return what the target of a record's tokens at `same` is made of, on the CPU."""
    tokens = [own.ids[own.start + place] for place in same]
    secret = [own.secret[place] if own.secret else -1 for place in same]
    marks: tuple[Tensor | None, Tensor | None] = (None, None)
    if max(secret, default=-1) >= 0:
        none = torch.zeros_like(next(iter(similar.values())))
        like = torch.stack([similar.get(token, none) for token in secret])  # [n, K]
        marks = (torch.tensor(secret), like.cpu())
    logits = network.logits(states.to(network.device)).float().cpu()  # [n, V]
    follows = torch.tensor(tokens)
    log_q = torch.log_softmax(logits, dim=-1)
    soft = [
        softened(log_q, each).gather(-1, follows.unsqueeze(-1)).squeeze(-1) for each in TEMPERATURES
    ]
    return Likelihoods(*target_levels(logits, follows, *marks), torch.stack(soft, dim=-1))
