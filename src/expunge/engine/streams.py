"""Two streams of records whose order is a function of the seed and the step alone.

Nothing is drawn while training, so a resumed run sees exactly what the uninterrupted one would have
seen. The forget stream passes over all its records in a new order each epoch; the retain stream
does the same at its own pace, so no retain record comes twice before all have come once.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from expunge.data.encode import Encoded
from expunge.methods.terms import Stream


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """Which records one optimiser step uses, as indices into the streams."""

    forget: tuple[int, ...]
    retain: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Streams:
    """The records that a run trains on.

    `alternative[i]` has the prompt of `forget[i]` and the answer wanted instead; it is empty when
    no term needs it.
    """

    forget: tuple[Encoded, ...]
    retain: tuple[Encoded, ...]
    alternative: tuple[Encoded, ...] = ()

    def drawn(self, stream: Stream, draw: Draw) -> list[Encoded]:
        """Return the records of one stream that a step uses."""
        match stream:
            case Stream.FORGET:
                return [self.forget[index] for index in draw.forget]
            case Stream.ALTERNATIVE:
                return [self.alternative[index] for index in draw.forget]
            case Stream.RETAIN:
                return [self.retain[index] for index in draw.retain]


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
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

    def draw(self, step: int) -> Draw:
        """Return the records of step `step`, counted from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = self._shuffled("forget", epoch, self.forget)
        forget = order[place * self.forget_batch : (place + 1) * self.forget_batch]
        wanted = range(step * self.retain_batch, (step + 1) * self.retain_batch)
        retain: list[int] = []
        if self.retain:
            for position in wanted:
                lap, index = divmod(position, self.retain)
                retain.append(self._shuffled("retain", lap, self.retain)[index])
        return Draw(forget=tuple(forget), retain=tuple(retain))

    def _shuffled(self, stream: str, lap: int, size: int) -> Sequence[int]:
        order = list(range(size))
        random.Random(f"{self.seed} {stream} {lap}").shuffle(order)
        return order
