"""Watchdogs: stop before harm is done, and when nothing is left to do.

Two small probe sets are scored every few steps. The run stops when retained answers are over the
utility budget and fell at two checks in a row, or are over it at the last step; the last state
within it is kept. A dip that the retain term is repairing is left alone. The run also stops when
the forget answers have become as unlikely as text that the model never saw: pushing further only
leaves a scar.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from expunge.data.tokenization import Encoded
from expunge.models.scoring import Known, score
from expunge.models.transformer import Network

Item = TypeVar("Item")

PROBE = 16
"""Records in each probe set."""
CERTAIN_SHARE = 0.9
"""Share of forget records that must look unseen before training stops early."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unseen:
    """How the original scores records like the forget set that it never saw, nats per token."""

    mean: float
    low: float
    """Their lower quartile."""
    alike: Mapping[str, float] = field(default_factory=dict[str, float])
    """Mean over those that ask the same as a forget record, by its id, where there are any."""
    real: bool = False
    """Whether people wrote these records; made-up words are less likely than any fact."""
    tokens: Mapping[str, tuple[float, float]] = field(
        default_factory=dict[str, tuple[float, float]]
    )
    """By forget record: mean NLL of unseen tokens that only a record can teach, and of others."""
    base: Mapping[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])
    """By forget record: log-probabilities of its scored tokens under the model that the original
    was trained from; empty where that is not known."""

    def level(self, record: str) -> float:
        """Return what a forget record would score, had the original not seen it."""
        return self.alike.get(record, self.mean)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeReading:
    """One look at the model while it trains."""

    forget_nll: float
    """Mean over probe records of the mean NLL per token, nats."""
    low_share: float
    """Share of forget records at least as unlikely as the lower quartile of unseen ones."""
    retain_probability: float
    """Mean over probe records of exp(-mean NLL)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlyStopping:
    """The probes and the limits."""

    forget: tuple[Encoded, ...]
    retain: tuple[Encoded, ...]
    unseen: Unseen
    utility_budget: float
    pad_id: int
    tokens_per_pass: int
    known: Known | None = None
    """Where states of the probes may be known, because what makes them does not train."""

    def look(self, network: Network) -> ProbeReading:
        """Score the probes."""
        forget = self._mean_nll(network, self.forget)
        retain = self._mean_nll(network, self.retain)
        return ProbeReading(
            forget_nll=sum(forget) / len(forget),
            low_share=sum(nll >= self.unseen.low for nll in forget) / len(forget),
            retain_probability=sum(map(math.exp, (-nll for nll in retain))) / len(retain)
            if retain
            else 1.0,
        )

    def saturated(self, reading: ProbeReading) -> bool:
        """Tell whether the forget answers look like unseen text."""
        return reading.forget_nll >= self.unseen.mean and reading.low_share >= CERTAIN_SHARE

    def over_budget(self, reading: ProbeReading, first: ProbeReading) -> bool:
        """Tell whether retained answers lost more than the utility budget since the start."""
        return reading.retain_probability < (1 - self.utility_budget) * first.retain_probability

    def _mean_nll(self, network: Network, records: Sequence[Encoded]) -> list[float]:
        scores = score(
            network,
            records,
            pad_id=self.pad_id,
            tokens_per_pass=self.tokens_per_pass,
            known=self.known,
        )
        return [-float(item.logp.mean()) for item in scores]


def unseen_level(
    mean_nlls: Sequence[float],
    vocabulary: int,
    *,
    alike: Mapping[str, Sequence[int]] | None = None,
    real: bool = False,
    tokens: Mapping[str, tuple[float, float]] | None = None,
    base: Mapping[str, Sequence[float]] | None = None,
) -> Unseen:
    """Return the level of unseen text, from records that no model saw or, without any, from chance.

    Args:
        mean_nlls: Mean NLL per token of each unseen record under the original; may be empty.
        vocabulary: Number of tokens; without unseen records the level is 0.8 ln V, near noise.
        alike: Which of them ask the same as each forget record, by its id.
        real: Whether people wrote them.
        tokens: As `Unseen.tokens`.
        base: As `Unseen.base`.
    """
    if not mean_nlls:
        level = 0.8 * math.log(vocabulary)
        return Unseen(mean=level, low=level, base=dict(base or {}))
    values = torch.tensor(mean_nlls, dtype=torch.float64)
    return Unseen(
        mean=float(values.mean()),
        low=float(values.quantile(0.25)),
        alike={
            record: float(values[list(indices)].mean())
            for record, indices in (alike or {}).items()
            if indices
        },
        real=real,
        tokens=dict(tokens or {}),
        base=dict(base or {}),
    )


def spread(records: Sequence[Item], size: int | None = PROBE) -> tuple[Item, ...]:
    """Take at most `size` records, evenly spaced; all of them where it is None."""
    if size is None or len(records) <= size:
        return tuple(records)
    return tuple(records[index * len(records) // size] for index in range(size))
