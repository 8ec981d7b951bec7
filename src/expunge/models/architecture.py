"""Find the parts of a transformer by role, in any architecture.

Looking at what a module puts out, and changing it.

Modules of a model's blocks by their names: those that train themselves, or get an adapter.
"""

import inspect
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from expunge.errors import InputError, UsageError
from expunge.methods.base import Trains, is_named


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """Return the blocks of a model.

    Raises:
        InputError: It has no list of as many modules as its configuration has layers.
    """
    wanted = model.config.get_text_config().num_hidden_layers
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return module
    raise InputError(
        "no-decoder-layers",
        what=f"{type(model).__name__} has no list of {wanted} decoder layers",
        why="layer-wise methods and adapters need to know where the layers are",
        fix="use a decoder-only model of the usual shape",
    )


def final_norm(model: PreTrainedModel, layers: nn.ModuleList) -> nn.Module:
    """Find the norm between the last block and the head: the last one beside the blocks."""
    parent = next(
        module for module in model.base_model.modules() if layers in list(module.children())
    )
    norms = [child for child in parent.children() if "norm" in type(child).__name__.lower()]
    return norms[-1] if norms else nn.Identity()


def stacks(module: nn.Module) -> list[Tensor]:
    """Return the tensors of a module, [experts, ., .], that hold the matrices of many experts."""
    if isinstance(module, nn.Conv1d):
        return []
    return [each for each in module.parameters(recurse=False) if each.ndim == 3]


_ROUTERS = ("gate", "router", "router_gate")


def routers(block: nn.Module) -> dict[str, nn.Module]:
    """Return the routers of a block, by name in it: the modules that choose experts.

    A router is named `router`, or `gate` beside experts. That holds for all families of
    transformers 5. The gate of a shared expert chooses nothing and is none.

    Example:
        >>> from torch import nn
        >>> block = nn.ModuleDict({"gate": nn.Linear(8, 4), "experts": nn.ModuleList()})
        >>> list(routers(block)), list(routers(nn.ModuleDict({"gate": nn.Linear(8, 4)})))
        (['gate'], [])
    """
    found: dict[str, nn.Module] = {}
    for name, module in block.named_modules():
        parent, _, leaf = name.rpartition(".")
        beside = block.get_submodule(parent).named_children()
        if leaf in _ROUTERS and (
            leaf != "gate" or any(own == "experts" or stacks(each) for own, each in beside)
        ):
            found[name] = module
    return found


def router_weights(blocks: Iterable[nn.Module]) -> list[nn.Parameter]:
    """Return the parameters of all routers of some blocks."""
    return [
        weight
        for block in blocks
        for each in routers(block).values()
        for weight in each.parameters()
    ]


def names_routers(blocks: Iterable[nn.Module], targets: Sequence[str]) -> bool:
    """Tell whether one of the targets is the name of a router, or of a module in one."""
    return any(is_named(name, targets) for block in blocks for name in _router_parts(block))


def cache_word(trunk: nn.Module) -> str:
    """Return the name of the argument for keys and values: `cache` in recent transformers."""
    named = inspect.signature(trunk.forward).parameters
    return "cache" if "cache" in named else "past_key_values"


@contextmanager
def hooked(module: nn.Module, change: Callable[[Tensor], Tensor | None]) -> Generator[None]:
    """Call `change` on a module's output, and replace the output by its result, if any."""

    def hook(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> object:
        if isinstance(output, Tensor):
            return change(output)
        changed = change(output[0])
        return None if changed is None else (changed, *output[1:])

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


Linear = nn.Linear | Conv1D
"""Layers that hold one matrix, as `nn.Linear` or as GPT-2 does, transposed."""
_Found = Mapping[int, Mapping[str, nn.Module]]
"""Modules by block, and by their name in it."""


def picked(blocks: nn.ModuleList, trains: Trains) -> list[nn.Parameter]:
    """Return the parameters of the chosen modules, each once.

    A router's are left out, unless it or a part of it is named itself. Those that hold chosen
    experts and others are returned whole, see `chosen_experts`.

    Raises:
        UsageError: A block that is meant has no such module; where gaps are allowed, a name is that
            of none.
    """
    meant = _meant(blocks, trains)
    _require(blocks, trains, _with_experts(blocks, meant, trains), "module")
    every: dict[int, nn.Parameter] = {}
    for index, own in meant.items():
        frozen = {id(weight) for weight in router_weights([blocks[index]])}
        named = _router_parts(blocks[index]) if trains.modules else set[str]()
        for name, module in own.items():
            for weight in module.parameters():
                if name in named or id(weight) not in frozen:
                    every[id(weight)] = weight
        for name, part in _expert_parts(blocks[index]).items():
            if trains.modules and trains.takes(name):
                every |= {id(weight): weight for weight in part.weights}
    return list(every.values())


def chosen_experts(blocks: nn.ModuleList, trains: Trains) -> dict[int, list[int]]:
    """Return which experts train of parameters that hold others as well, by `id` of each.

    Experts that lie in one tensor have the names that modules of their own would have:
    `mlp.experts.3` for all matrices of expert 3. Its router must not be named to reach it.

    Example:
        >>> import torch
        >>> block = nn.ModuleDict({"experts": nn.Module()})
        >>> block["experts"].gate_up_proj = nn.Parameter(torch.zeros(4, 2, 2))
        >>> trains = Trains(modules=("experts.3", "experts.1"), first_layer=0, last_layer=0)
        >>> list(chosen_experts(nn.ModuleList([block]), trains).values())
        [[1, 3]]
    """
    found: dict[int, list[int]] = {}
    meant = _meant(blocks, trains)
    for index, own in meant.items():
        whole = {id(weight) for module in own.values() for weight in module.parameters()}
        for name, part in _expert_parts(blocks[index]).items():
            if trains.modules and trains.takes(name):
                for weight in part.weights:
                    if id(weight) not in whole:
                        found.setdefault(id(weight), []).append(part.expert)
    return {key: sorted(experts) for key, experts in found.items()}


class _ExpertPart(NamedTuple):
    """One expert of a module that holds many in each of its tensors."""

    weights: list[nn.Parameter]
    expert: int


def _expert_parts(block: nn.Module) -> dict[str, _ExpertPart]:
    """Return the experts that lie in tensors with others, by the names of modules of their own."""
    found: dict[str, _ExpertPart] = {}
    for name, module in block.named_modules():
        held = stacks(module)
        if held:
            count = len(held[0])
            own = [each for each in module.parameters(recurse=False) if len(each) == count]
            found |= {f"{name}.{index}": _ExpertPart(own, index) for index in range(count)}
    return found


def linear_layers(blocks: nn.ModuleList, trains: Trains) -> dict[tuple[int, str], Linear]:
    """Return the chosen linear layers, by block and name in it; routers only if they are named.

    Raises:
        UsageError: As `picked`; or experts are named that lie in one tensor.
    """
    meant: dict[int, dict[str, Linear]] = {}
    for index, own in _meant(blocks, trains).items():
        frozen = set[str]() if trains.modules else _router_parts(blocks[index])
        layers = {name: each for name, each in own.items() if isinstance(each, Linear)}
        meant[index] = {name: each for name, each in layers.items() if name not in frozen}
    experts = {name for block in blocks for name in _expert_parts(block)}
    held = experts | {name.rpartition(".")[0] for name in experts}
    there = {name for own in meant.values() for name in own}
    for each in trains.modules:
        reached = any(is_named(name, (each,)) for name in there)
        if not reached and any(is_named(name, (each,)) for name in held):
            raise _held_in_one(each)
    _require(blocks, trains, meant, "linear layer")
    return {(index, name): layer for index, own in meant.items() for name, layer in own.items()}


def _meant(blocks: nn.ModuleList, trains: Trains) -> dict[int, dict[str, nn.Module]]:
    return {
        index: {name: each for name, each in block.named_modules() if trains.takes(name)}
        for index, block in enumerate(blocks)
        if trains.first_layer <= index <= trains.last_layer
    }


def _with_experts(blocks: nn.ModuleList, meant: _Found, trains: Trains) -> _Found:
    """Return modules that are meant, and those that hold experts that are."""
    return {
        index: {
            **own,
            **{
                name: blocks[index].get_submodule(name.rpartition(".")[0])
                for name in _expert_parts(blocks[index])
                if trains.modules and trains.takes(name)
            },
        }
        for index, own in meant.items()
    }


def _router_parts(block: nn.Module) -> set[str]:
    """Return the names in a block of its routers and of the modules in them."""
    return {
        f"{name}.{part}".rstrip(".")
        for name, router in routers(block).items()
        for part, _ in router.named_modules()
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


def _held_in_one(target: str) -> UsageError:
    return UsageError(
        "experts-in-one-tensor",
        what=f"an adapter does not reach {target}",
        why="these experts lie in one tensor, and an adapter corrects single matrices",
        fix="train them with --full, or name linear layers in train.targets",
    )


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
