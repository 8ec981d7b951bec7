"""Two streams of records whose order is a function of the seed and the step alone.

Nothing is drawn while training, so a resumed run sees exactly what the uninterrupted one would have
seen. The forget stream passes over all its records in a new order each epoch; the retain stream
does the same at its own pace, so no retain record comes twice before all have come once.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from expunge.data.tokenization import Encoded
from expunge.methods.base import Stream


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchIndices:
    """Which records one optimiser step uses, as indices into the streams."""

    forget: tuple[int, ...]
    retain: tuple[int, ...]
    epoch: int = 0
    """How often the forget set was passed over before: it chooses among variants."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Streams:
    """The records that a run trains on.

    `variants[stream][i]` holds what that stream has for record i of the set on whose side it is:
    one or more, of which training takes turns.
    """

    forget: tuple[Encoded, ...]
    retain: tuple[Encoded, ...]
    variants: Mapping[Stream, tuple[tuple[Encoded, ...], ...]] = field(
        default_factory=dict[Stream, tuple[tuple[Encoded, ...], ...]]
    )

    def drawn(self, stream: Stream, draw: BatchIndices) -> list[Encoded]:
        """Return the records of one stream that a step uses."""
        if stream is Stream.FORGET:
            return [self.forget[index] for index in draw.forget]
        if stream is Stream.RETAIN:
            return [self.retain[index] for index in draw.retain]
        indices = draw.forget if stream.side == "forget" else draw.retain
        choices = [self.variants[stream][index] for index in indices]
        return [records[draw.epoch % len(records)] for records in choices]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampler:
    """The order of a run.

    The last step of an epoch over the forget set may hold fewer records; epochs never mix.
    """

    forget: int
    """Number of forget records."""
    retain: int
    """Number of retain records; 0 for none."""
    forget_batch: int
    retain_batch: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps that visit every forget record once."""
        return -(-self.forget // self.forget_batch)

    def draw(self, step: int) -> BatchIndices:
        """Return the records of step `step`, counted from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = _shuffled(self.seed, "forget", epoch, self.forget)
        forget = order[place * self.forget_batch : (place + 1) * self.forget_batch]
        wanted = range(step * self.retain_batch, (step + 1) * self.retain_batch)
        places = [divmod(position, self.retain) for position in wanted if self.retain]
        laps = {lap: _shuffled(self.seed, "retain", lap, self.retain) for lap, _ in places}
        retain = tuple(laps[lap][index] for lap, index in places)
        return BatchIndices(forget=forget, retain=retain, epoch=epoch)


@lru_cache(maxsize=8)
def _shuffled(seed: int, stream: str, lap: int, size: int) -> tuple[int, ...]:
    """Return the order of one pass: kept, for a step of many takes a few records of it."""
    order = list(range(size))
    random.Random(f"{seed} {stream} {lap}").shuffle(order)
    return tuple(order)
