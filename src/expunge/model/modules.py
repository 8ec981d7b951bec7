"""Modules of a model's blocks by their names: those that train themselves, or get an adapter."""

from collections.abc import Iterable, Mapping

from torch import nn
from transformers.pytorch_utils import Conv1D

from expunge.errors import UsageError
from expunge.methods.terms import Trains, is_named
from expunge.model.parts import stacks

Linear = nn.Linear | Conv1D
"""Layers that hold one matrix, as `nn.Linear` or as GPT-2 does, transposed."""
_Found = Mapping[int, Mapping[str, nn.Module]]
"""Modules by block, and by their name in it."""


def picked(blocks: nn.ModuleList, trains: Trains) -> list[nn.Parameter]:
    """Return the parameters of the modules that are meant, each once.

    Raises:
        UsageError: A block that is meant has no such module; where gaps are allowed, a name is that
            of none.
    """
    meant = _meant(blocks, trains)
    _require(blocks, trains, meant, "module")
    every = [weight for own in meant.values() for m in own.values() for weight in m.parameters()]
    return list({id(weight): weight for weight in every}.values())


def linear_layers(blocks: nn.ModuleList, trains: Trains) -> dict[tuple[int, str], Linear]:
    """Return the linear layers that are meant, by block and name in it.

    Raises:
        UsageError: As `picked`.
    """
    meant = {
        index: {name: module for name, module in own.items() if isinstance(module, Linear)}
        for index, own in _meant(blocks, trains).items()
    }
    _require(blocks, trains, meant, "linear layer")
    return {(index, name): layer for index, own in meant.items() for name, layer in own.items()}


def _meant(blocks: nn.ModuleList, trains: Trains) -> dict[int, dict[str, nn.Module]]:
    return {
        index: {name: each for name, each in block.named_modules() if trains.takes(name)}
        for index, block in enumerate(blocks)
        if trains.first_layer <= index <= trains.last_layer
    }


def _require(blocks: nn.ModuleList, trains: Trains, meant: _Found, kind: str) -> None:
    """Refuse blocks without what is wanted; where gaps are allowed, names that none of them has."""
    span = f"blocks {trains.first_layer} to {trains.last_layer}"
    bare = [index for index, own in meant.items() if not own]
    if not trains.gaps and bare:
        wanted = " or ".join(trains.modules)
        what = f"{len(bare)} of the {span} have no {kind} {wanted}"
        if len(bare) == len(meant):
            what = f"no {kind} of the {span} is named {wanted}"
        raise _no_such_modules(what, f"block {bare[0]}", [blocks[bare[0]]])
    found = {name for own in meant.values() for name in own}
    lost = [each for each in trains.modules if not any(is_named(name, (each,)) for name in found)]
    if trains.gaps and (lost or not found):
        named = f" is named {' or '.join(lost)}" if lost else " is there"
        raise _no_such_modules(f"no {kind} of the {span}{named}", span, [blocks[i] for i in meant])


def _no_such_modules(what: str, where: str, blocks: Iterable[nn.Module]) -> UsageError:
    there = dict.fromkeys(
        name
        for block in blocks
        for name, module in block.named_modules()
        if isinstance(module, Linear) or stacks(module)
    )
    return UsageError(
        "no-such-modules",
        what=what,
        why=f"the matrices of {where} are {', '.join(there)}",
        fix="name these, or parts after the last dot, or a regular expression, in train.targets, "
        "or keep to the other blocks; where a method chooses itself, use another one",
    )
