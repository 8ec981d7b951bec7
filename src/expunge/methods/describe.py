"""Needs and cost of a method, from its terms."""

import inspect
from collections.abc import Sequence
from dataclasses import fields, is_dataclass

from expunge.config.catalogue import MethodDescription, file_of
from expunge.methods.base import (
    Distribution,
    Likelihood,
    Method,
    Representation,
    SelfTaught,
    Shape,
    Stream,
    Term,
)
from expunge.methods.edits.base import MEMORISED, WEIGHED, Edit, Passes
from expunge.methods.guards.base import Guard

_EXAMPLE = Shape(layers=32, width=4096, vocabulary=128256)
"""The shape of a common 8B model: needs and costs hardly depend on it."""


def describe(name: str, method: Method | Edit | Guard) -> MethodDescription:
    """Describe a method with its hyperparameters as they are.

    Args:
        name: What the user calls it.
        method: The method.

    Example:
        >>> from expunge.methods import build
        >>> describe("npo", build("npo", {})).family
        'preference'
    """
    if isinstance(method, Edit | Guard):
        streams = (Stream.FORGET, Stream.RETAIN, *method.streams)
        passes = method.passes()
        spares = isinstance(method, Edit) and not passes.needs_retain
        read = tuple(s for s in streams if s is not Stream.RETAIN) if spares else streams
        keeps: tuple[str, ...] = ()
        cost = _passes_cost(passes)
    else:
        terms = method.terms(_EXAMPLE)
        read = tuple(stream for term in terms for stream in _reads(term))
        keeps = tuple(dict.fromkeys(kept for term in terms for kept in _keeps(term)))
        cost = _step_cost(terms)
    own = isinstance(method, SelfTaught)
    data = tuple(dict.fromkeys(_given_as(stream) for stream in read))
    assert is_dataclass(method), "methods are frozen dataclasses"
    return MethodDescription(
        name=name,
        family=method.family,
        data=tuple(item for item in data if not (own and item == "alternatives")),
        keeps=keeps,
        cost=cost,
        advice=method.advice,
        defaults=tuple((field.name, getattr(method, field.name)) for field in fields(method)),
        file=file_of(inspect.getfile(type(method))),
    )


def _given_as(stream: Stream) -> str:
    """What the user gives for a stream; refusals stand in for alternatives that are not given."""
    return "alternatives" if stream is Stream.ALTERNATIVE else stream.side


def _reads(term: Term) -> tuple[Stream, ...]:
    return term.streams + (term.references if isinstance(term, Distribution) else ())


def _keeps(term: Term) -> tuple[str, ...]:
    match term:
        case Likelihood(needs_reference=True):
            return ("log-probabilities",)
        case Distribution() if term.references or term.reinforced:
            return ("last hidden states",)
        case Representation(needs_reference=True):
            return ("hidden states",)
        case _:
            return ()


def _passes_cost(passes: Passes) -> str:
    """What is read; of a method that reads nothing, that it does not."""
    said: list[str] = []
    if passes.memorising:
        parts = f" for each of {passes.parts} parts" if passes.parts > 1 else ""
        said.append(f"{passes.memorising} steps of up to {MEMORISED} forget records{parts}")
    said += [
        f"{times:.2g} {'pass' if times == 1 else 'passes'} over {name}"
        for name, times in (("forget", passes.forget), ("retain", passes.retain))
        if times
    ]
    said += [
        f"gradients of up to {WEIGHED} {stream.side} records one by one"
        for stream in passes.weighed
    ]
    return ", ".join(said) or "no pass over any set"


def _step_cost(terms: Sequence[Term]) -> str:
    """One pass for each stream that runs; backward costs one more, or two for all weights.

    A representation term alone ends its pass at its block.
    """
    forward = 0.0
    for streams in dict.fromkeys(term.streams for term in terms):
        group = [term for term in terms if term.streams == streams]
        inner = [term.layer + 1 for term in group if isinstance(term, Representation)]
        whole = len(inner) < len(group)
        depth = 1.0 if whole else max(inner) / _EXAMPLE.layers
        forward += depth * len(streams)
    return f"{2 * forward:.2g} F a step, {3 * forward:.2g} F with --full"
