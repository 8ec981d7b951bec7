"""What a run needs, derived from its terms before any weight moves.

How high each forward pass runs, how far down gradients go, at which positions the head is
computed, what the original is asked once, and how many tokens all that is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from expunge.data.encode import Encoded
from expunge.engine.observe import forward_passes
from expunge.engine.streams import Order, Streams
from expunge.methods.terms import (
    MLP_OUT,
    Distribution,
    Likelihood,
    Representation,
    Stream,
    Term,
    Trains,
)
from expunge.model.batch import shared_beginning
from expunge.model.score import CHUNK

SAMPLED = 16
"""Steps whose records are counted, spread over the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Depth:
    """Where gradients go."""

    layers: int
    """Blocks of the model."""
    first: int
    """The lowest block with a trained weight."""
    outputs_only: bool
    """Whether only matrices that write to the residual stream train: in the lowest block the
    gradient stops at them."""
    cached: bool
    """Whether what lies under `first` is computed once."""

    @staticmethod
    def of(layers: int, first: int, trains: Trains | None) -> "Depth":
        """Return the depth of what a method or an adapter trains."""
        modules = set() if trains is None else set(trains.modules)
        outputs = bool(modules) and modules <= set(MLP_OUT)
        return Depth(layers=layers, first=first, outputs_only=outputs, cached=first > 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """The mean work of one optimiser step, in tokens; "blocks" are tokens times blocks."""

    tokens: float
    """Tokens that pass through the model, shared ones once."""
    forward: float
    """Blocks run."""
    backward: float
    """Blocks that gradients pass."""
    scored: float
    """Positions at which the head is computed, with gradient."""
    again: float
    """Of these, positions whose logits are computed a second time on the way back."""
    again_trained: float
    """Positions for which that holds only where the head trains."""
    frozen: float
    """Positions at which the original's head is applied to its states."""
    largest: int
    """Most tokens of one forward pass."""
    lowest: int | None = None
    """The lowest block that a term reads; None: all read the top."""

    def times(self, count: float) -> "Step":
        """Return the step with its gradient taken several times, or for a share of its records."""
        return replace(
            self,
            tokens=count * self.tokens,
            forward=count * self.forward,
            backward=count * self.backward,
            scored=count * self.scored,
            again=count * self.again,
            again_trained=count * self.again_trained,
            frozen=count * self.frozen,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Once:
    """What the original is asked before the first step, in tokens."""

    forward: float
    """Blocks run, tokens times blocks."""
    scored: float
    """Positions at which its head is computed."""
    states: float
    """Hidden states that are kept in memory."""
    below: float
    """Hidden states under the lowest trained block, that are kept on disk."""
    kinds: tuple[str, ...]
    """What is kept, in words."""


def step_needs(
    terms: Sequence[Term],
    streams: Streams,
    order: Order,
    *,
    steps: int,
    depth: Depth,
    tokens_per_pass: int,
) -> Step:
    """Count the work of a step, as the mean over steps spread over the run."""
    chosen = sorted({index * steps // SAMPLED for index in range(SAMPLED)} & set(range(steps)))
    found = [
        _one(terms, streams, order, step, depth=depth, tokens_per_pass=tokens_per_pass)
        for step in chosen
    ]

    def mean(name: str) -> float:
        return sum(getattr(each, name) for each in found) / len(found)

    return Step(
        tokens=mean("tokens"),
        forward=mean("forward"),
        backward=mean("backward"),
        scored=mean("scored"),
        again=mean("again"),
        again_trained=mean("again_trained"),
        frozen=mean("frozen"),
        largest=max(each.largest for each in found),
        lowest=min((term.layer for term in terms if term.layer is not None), default=None),
    )


def _one(
    terms: Sequence[Term],
    streams: Streams,
    order: Order,
    step: int,
    *,
    depth: Depth,
    tokens_per_pass: int,
) -> Step:
    tokens = forward = backward = scored = again = again_trained = frozen = largest = 0
    draw = order.draw(step)
    for run, items in forward_passes(terms, streams, draw, tokens_per_pass=tokens_per_pass):
        records = list(dict.fromkeys(record for item in items for record in item.records))
        size = packed_tokens(records)
        top = depth.layers if run.top is None else run.top + 1
        tokens += size
        largest = max(largest, size)
        forward += size * (top - (depth.first if depth.cached else 0))
        backward += size * (top - depth.first - int(depth.outputs_only))
        for term in run.terms:
            own = [r for item in items if item.streams == term.streams for r in item.records]
            count = sum(len(record.ids) - record.start for record in own)
            if isinstance(term, Representation):
                continue
            scored += count
            twice = count if count > CHUNK else 0
            if isinstance(term, Likelihood):
                again_trained += twice
            else:
                again += twice
                frozen += count * (len(term.references) + int(term.reinforced))
    return Step(
        tokens=tokens,
        forward=forward,
        backward=backward,
        scored=scored,
        again=again,
        again_trained=again_trained,
        frozen=frozen,
        largest=largest,
    )


def once_needs(
    terms: Sequence[Term], streams: Streams, order: Order, *, steps: int, depth: Depth
) -> Once:
    """Count what is computed once: references, and the states under the lowest trained block."""
    forward = scored = states = below = 0.0
    kinds: list[str] = []
    for term in terms:
        asked = term.references if isinstance(term, Distribution) else term.streams
        if isinstance(term, Likelihood | Representation) and not term.needs_reference:
            continue
        for stream in asked:
            seen = _visited(streams, order, stream, steps)
            top = term.layer + 1 if isinstance(term, Representation) else depth.layers
            forward += seen.packed * top
            scored += seen.scored if isinstance(term, Likelihood) else 0
            states += 0 if isinstance(term, Likelihood) else seen.scored
            kinds.append(f"{_KINDS[type(term)]} of {stream.value} records")
    if depth.cached:
        for stream in dict.fromkeys(stream for term in terms for stream in term.streams):
            seen = _visited(streams, order, stream, steps)
            forward += seen.packed * depth.first
            below += seen.tokens
        kinds.append(f"what block {depth.first} reads")
    return Once(
        forward=forward,
        scored=scored,
        states=states,
        below=below,
        kinds=tuple(dict.fromkeys(kinds)),
    )


_KINDS: dict[type[Term], str] = {
    Likelihood: "log-probabilities",
    Distribution: "last hidden states",
    Representation: "hidden states",
}


class _Visited(NamedTuple):
    """The records of a stream that a run draws, in tokens."""

    tokens: float
    packed: float
    """What they begin with in common not counted."""
    scored: float


def _visited(streams: Streams, order: Order, stream: Stream, steps: int) -> _Visited:
    if stream is Stream.FORGET:
        records, batch, size = streams.forget, order.forget_batch, order.forget
    elif stream is Stream.RETAIN:
        records, batch, size = streams.retain, order.retain_batch, order.retain
    else:
        records = [record for several in streams.variants[stream] for record in several]
        size = len(records)
        batch = order.forget_batch if stream.side == "forget" else order.retain_batch
    if not records:
        return _Visited(0.0, 0.0, 0.0)
    share = min(1.0, steps * batch / size)
    tokens = sum(len(record.ids) for record in records)
    scored = sum(len(record.ids) - record.start for record in records)
    packed = tokens - shared_beginning(records) * len(records)
    return _Visited(share * tokens, share * packed, share * scored)


def packed_tokens(records: Sequence[Encoded]) -> int:
    """Return how many tokens a pack of these records holds."""
    shared = shared_beginning(records)
    return shared + sum(len(record.ids) - shared for record in records)
