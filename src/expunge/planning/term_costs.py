"""What a run needs, derived from its terms before any weight moves.

How high each forward pass runs, how far down gradients go, at which positions the head is
computed, what the original is asked once, and how many tokens all that is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import NamedTuple

from expunge.data.tokenization import Encoded
from expunge.methods.base import (
    MLP_OUT,
    Distribution,
    Likelihood,
    Representation,
    Side,
    Stream,
    Term,
    Trains,
)
from expunge.models.batching import shared_beginning
from expunge.models.scoring import CHUNK
from expunge.training.forward import TermBatch, forward_passes
from expunge.training.sampler import BatchIndices, Sampler, Streams
from expunge.training.step_gradient import GradientEvaluations

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
class StepWork:
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

    def times(self, count: float) -> "StepWork":
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

    def plus(self, other: "StepWork") -> "StepWork":
        """Return the work of both, one after the other."""
        return StepWork(
            tokens=self.tokens + other.tokens,
            forward=self.forward + other.forward,
            backward=self.backward + other.backward,
            scored=self.scored + other.scored,
            again=self.again + other.again,
            again_trained=self.again_trained + other.again_trained,
            frozen=self.frozen + other.frozen,
            largest=max(self.largest, other.largest),
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
    order: Sampler,
    *,
    steps: int,
    depth: Depth,
    tokens_per_pass: int,
    pulls: GradientEvaluations | None = None,
) -> StepWork:
    """Count the work of a step, as the mean over steps spread over the run.

    Args:
        terms: Of the method.
        streams: What the run trains on.
        order: Which records a step draws.
        steps: Of the run.
        depth: Where gradients go.
        tokens_per_pass: Largest number of tokens in one forward pass.
        pulls: How the gradient is taken; None: once, of all terms. What an adversary adds is not
            counted: `adversary_needs`.
    """
    pulls = pulls or GradientEvaluations()

    def mean(some: Sequence[Term], depth: Depth, *, alone: bool) -> StepWork:
        return _mean(
            _one(some, streams, order.draw(step), depth, tokens_per_pass, alone=alone)
            for step in _sampled(steps)
        )

    if not pulls.apart:
        return mean(terms, depth, alone=False)
    retain = mean(_of(terms, "retain"), depth, alone=False)
    if pulls.moved is None:
        return retain.plus(mean(_of(terms, "forget"), depth, alone=False).times(pulls.forget))
    whole = replace(depth, cached=False)  # states are moved anew each time, perhaps below
    return retain.plus(mean(_of(terms, "forget"), whole, alone=True))


def adversary_needs(
    terms: Sequence[Term],
    streams: Streams,
    order: Sampler,
    *,
    steps: int,
    layers: int,
    tokens_per_pass: int,
    pulls: GradientEvaluations,
) -> StepWork | None:
    """Count what an adversary adds to a step: passes to the head and back to the block it moves.

    Args:
        terms: Of the method.
        streams: What the run trains on.
        order: Which records a step draws.
        steps: Of the run.
        layers: Blocks of the model.
        tokens_per_pass: Largest number of tokens in one forward pass.
        pulls: How the gradient is taken.

    Returns:
        None where there is no adversary.
    """
    if pulls.moved is None:
        return None
    back, forget = layers - pulls.moved - 1, _of(terms, "forget")

    def one(draw: BatchIndices) -> StepWork:
        passes = forward_passes(forget, streams, draw, tokens_per_pass=tokens_per_pass)
        sizes, counts = [0], [0]
        for _, items in passes:
            records = _records(items)
            sizes.append(sum(len(record.ids) for record in records))
            counts.append(sum(len(record.ids) - record.start for record in records))
        return StepWork(
            tokens=sum(sizes),
            forward=sum(sizes) * layers,
            backward=sum(sizes) * back,
            scored=sum(counts),
            again=0.0,
            again_trained=sum(count for count in counts if count > CHUNK),
            frozen=0.0,
            largest=max(sizes),
        )

    return _mean(one(order.draw(step)) for step in _sampled(steps)).times(pulls.forget - 1)


def _sampled(steps: int) -> list[int]:
    return sorted({index * steps // SAMPLED for index in range(SAMPLED)} & set(range(steps)))


def _mean(found: Iterable[StepWork]) -> StepWork:
    every = list(found)
    return reduce(StepWork.plus, every).times(1 / len(every))


def _of(terms: Sequence[Term], side: Side) -> list[Term]:
    return [term for term in terms if term.streams[0].side == side]


def _records(items: Sequence[TermBatch]) -> list[Encoded]:
    return list(dict.fromkeys(record for item in items for record in item.records))


def _one(
    terms: Sequence[Term],
    streams: Streams,
    draw: BatchIndices,
    depth: Depth,
    tokens_per_pass: int,
    *,
    alone: bool,
) -> StepWork:
    """Count the work of a draw; `alone` says that no record shares its beginning with others."""
    tokens = forward = backward = scored = again = again_trained = frozen = largest = 0
    for run, items in forward_passes(terms, streams, draw, tokens_per_pass=tokens_per_pass):
        records = _records(items)
        size = sum(len(record.ids) for record in records) if alone else packed_tokens(records)
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
    return StepWork(
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
    terms: Sequence[Term], streams: Streams, order: Sampler, *, steps: int, depth: Depth
) -> Once:
    """Count what is computed once: references, and the states under the lowest trained block."""
    forward = scored = states = below = 0.0
    kinds: list[str] = []
    used: list[Stream] = []
    for term in terms:
        asked = term.references if isinstance(term, Distribution) else term.streams
        used += (*term.streams, *asked)
        if isinstance(term, Likelihood | Representation) and not term.needs_reference:
            continue
        for stream in asked:
            seen = _visited(streams, order, stream, steps)
            top = term.layer + 1 if isinstance(term, Representation) else depth.layers
            known = depth.first if depth.cached and top > depth.first else 0
            forward += seen.packed * (top - known)
            scored += seen.scored if isinstance(term, Likelihood) else 0
            states += 0 if isinstance(term, Likelihood) else seen.scored
            kinds.append(f"{_KINDS[type(term)]} of {stream.value} records")
    if depth.cached:
        for stream in dict.fromkeys(used):
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


def _visited(streams: Streams, order: Sampler, stream: Stream, steps: int) -> _Visited:
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
