"""A pretended card: tensors that say they lie on `meta`, with their numbers in host memory.

What is computed there is right, and whatever a card would refuse fails here: an operation on
tensors of both places, numbers drawn there by a generator of the processor, a look without a copy.
As on a card, numbers without dimensions may come from anywhere, and indices from host memory.
"""

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

CARD = torch.device("meta")
_aten = torch.ops.aten
_COPIES = {_aten._to_copy.default, _aten.copy_.default, _aten._foreach_copy_.default}
_INDEXED = {
    _aten.index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
}


class Card(Tensor):
    """A tensor on the card."""

    @staticmethod
    def __new__(cls, numbers):
        return Tensor._make_wrapper_subclass(
            cls,
            numbers.shape,
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            device=CARD,
        )

    def __init__(self, numbers):
        self.numbers = numbers

    def tolist(self):
        return self.numbers.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _computed(func, args, kwargs or {})


class Pretended(TorchDispatchMode):
    """Inside, what is made on `meta` or sent there is on the card."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _computed(func, args, kwargs or {})


def moved(model: nn.Module) -> nn.Module:
    """Put a model on the card; weights that are one tensor stay one."""
    made = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None and id(weight) not in made:
                made[id(weight)] = nn.Parameter(Card(weight.detach()), weight.requires_grad)
            module._parameters[name] = None if weight is None else made[id(weight)]
        for name, buffer in module._buffers.items():
            module._buffers[name] = buffer if buffer is None else Card(buffer)
    return model


def _computed(func, args, kwargs):
    given = tree_leaves((args, kwargs))
    there = any(isinstance(each, Card) for each in given)
    met = (args[0], *args[2:]) if func in _INDEXED else given
    here = [tuple(each.shape) for each in tree_leaves(met) if _is_here(each)]
    if there and here and func not in _COPIES:
        raise RuntimeError(f"{func} meets tensors {here} that are not on the card")
    for place in (each for each in given if isinstance(each, torch.device)):
        there = place == CARD
        if there and any(isinstance(each, torch.Generator) for each in given):
            raise RuntimeError(f"{func} draws on the card, and its generator is the processor's")
    found = func(*tree_map(_plain, args), **tree_map(_plain, kwargs))
    if any(
        each.alias_info is not None and each.alias_info.is_write for each in func._schema.returns
    ):
        return kwargs.get("out", args[0])  # in place
    return tree_map_only(Tensor, Card, found) if there else found


def _is_here(value):
    return isinstance(value, Tensor) and not isinstance(value, Card) and value.ndim > 0


def _plain(value):
    if isinstance(value, Card):
        return value.numbers
    return torch.device("cpu") if isinstance(value, torch.device) else value
