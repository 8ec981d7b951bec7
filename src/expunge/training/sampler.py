"""Two streams of records whose order is a function of the seed and the step alone.

Nothing is drawn while training, so a resumed run sees exactly what the uninterrupted one would have
seen. The forget stream passes over all its records in a new order each epoch; the retain stream
does the same at its own pace, so no retain record comes twice before all have come once.
"""

import hashlib
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from expunge.data.tokenization import Encoded
from expunge.methods.base import Stream

_CELLS = 256
"""Parts of an epoch that learning rates tell apart."""


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
    unrehearsed: tuple[tuple[Encoded, ...], ...] = ()
    """General text that no step draws, kind by kind."""
    replay: tuple[Encoded, ...] = ()
    """What the original says of subjects that stay, where no record says it."""

    def with_replay(self) -> "Streams":
        """Return the streams with the replayed answers behind the retain set.

        What goes in step with the retain set starts again from its first record.
        """
        count = len(self.retain)
        more = (index % count for index in range(len(self.replay)))
        longer = self.with_retain((*range(count), *more))
        return replace(longer, retain=(*self.retain, *self.replay), replay=())

    def with_retain(self, indices: Sequence[int]) -> "Streams":
        """Return the streams with these retain records, and what goes in step with them."""
        variants = self._in_step("retain", len(self.retain), indices)
        retain = tuple(self.retain[index] for index in indices)
        return replace(self, retain=retain, variants=variants)

    def with_forget(self, indices: Sequence[int]) -> "Streams":
        """Return the streams with these forget records, and what goes in step with them."""
        variants = self._in_step("forget", len(self.forget), indices)
        forget = tuple(self.forget[index] for index in indices)
        return replace(self, forget=forget, variants=variants)

    def _in_step(
        self, side: str, count: int, indices: Sequence[int]
    ) -> dict[Stream, tuple[tuple[Encoded, ...], ...]]:
        return {
            stream: tuple(some[index] for index in indices)
            if stream.side == side and len(some) == count
            else some
            for stream, some in self.variants.items()
        }

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


@dataclass(frozen=True, kw_only=True, slots=True)
class ContentSampler:
    """An order in which a record's place depends on that record alone.

    In epoch e a record has the place u_e = SHA-256(seed, e, what it says), as a number in [0, 1).
    An epoch passes over all records by rising place, in batches of `batch`; epochs never mix. The
    learning rate of a step follows from how far training is,

        p = (e + c) / epochs,    c = middle of that 256th of [0, 1) that holds the first record's u

    and not from the number of steps. So steps before the first use of a record are the same, bit
    for bit, whether that record is there or not: what was done until then may be kept when it has
    to go. (Only a 256th, because the rates are logged, and u itself would let whoever reads them
    test guesses of what a record says.)
    """

    draws: tuple[BatchIndices, ...]
    progress: tuple[float, ...]
    """p of each step, in (0, 1)."""

    @classmethod
    def of(cls, contents: Sequence[str], *, batch: int, epochs: int, seed: int) -> "ContentSampler":
        """Order records.

        Args:
            contents: What each record says, or a digest of that; equal texts are interchangeable.
            batch: Records of a step.
            epochs: Passes over all records.
            seed: Of the order.
        """
        draws: list[BatchIndices] = []
        progress: list[float] = []
        for epoch in range(epochs):
            places = [_place(seed, epoch, content) for content in contents]
            order = sorted(range(len(contents)), key=lambda index: (places[index], index))
            for start in range(0, len(order), batch):
                drawn = tuple(order[start : start + batch])
                cell = int(places[drawn[0]] * _CELLS)
                draws.append(BatchIndices(forget=drawn, retain=(), epoch=epoch))
                progress.append((epoch + (cell + 0.5) / _CELLS) / epochs)
        return cls(draws=tuple(draws), progress=tuple(progress))

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps that visit every record once."""
        return sum(draw.epoch == 0 for draw in self.draws)

    def draw(self, step: int) -> BatchIndices:
        """Return the records of step `step`, counted from 0."""
        return self.draws[step]

    def rates(self, peak: float, warmup: float) -> tuple[float, ...]:
        """Return the learning rate of each step: it rises to `peak` at p = warmup, then falls."""
        return tuple(
            peak * (p / warmup if p < warmup else (1 - p) / (1 - warmup)) for p in self.progress
        )

    def first_use(self, records: Collection[int]) -> int:
        """Return the first step that uses one of these records, by index."""
        wanted = set(records)
        return next(step for step, draw in enumerate(self.draws) if wanted & set(draw.forget))


def _place(seed: int, epoch: int, content: str) -> float:
    digest = hashlib.sha256(f"{seed} {epoch} {content}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48  # exact in a float


@lru_cache(maxsize=8)
def _shuffled(seed: int, stream: str, lap: int, size: int) -> tuple[int, ...]:
    """Return the order of one pass: kept, for a step of many takes a few records of it."""
    order = list(range(size))
    random.Random(f"{seed} {stream} {lap}").shuffle(order)
    return tuple(order)
