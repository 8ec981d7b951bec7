"""The parts of a model that are ranked: attention and MLP of each block, and their matrices."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from torch import nn

from expunge.models.architecture import Linear, stacks
from expunge.models.transformer import Network

PartKind = Literal["attention", "mlp"]
KINDS: tuple[PartKind, ...] = ("attention", "mlp")
_ATTENTION = ("attn", "attention")


class ModelPart(NamedTuple):
    """Attention or MLP of one block; blocks count from 0."""

    block: int
    kind: PartKind


def part_modules(network: Network) -> dict[ModelPart, nn.Module]:
    """Return the module whose output each part adds to the residual stream.

    A child of a block with `attn` or `attention` in its name and a matrix in it is its attention;
    the last other child with a matrix in it is its MLP.
    """
    found: dict[ModelPart, nn.Module] = {}
    for index, block in enumerate(network.layers):
        for name, child in block.named_children():
            if _matrices(child):
                found[ModelPart(index, _kind(name))] = child
    return found


def part_matrices(network: Network) -> dict[ModelPart, dict[str, nn.Parameter]]:
    """Return the matrices of each part by their names in the block, such as `mlp.up_proj`."""
    found: dict[ModelPart, dict[str, nn.Parameter]] = {}
    for index, block in enumerate(network.layers):
        for name, child in block.named_children():
            own = {f"{name}.{inner}".rstrip("."): w for inner, w in _matrices(child).items()}
            if own:
                found.setdefault(ModelPart(index, _kind(name)), {}).update(own)
    return found


def _kind(name: str) -> PartKind:
    return "attention" if any(word in name for word in _ATTENTION) else "mlp"


def _matrices(module: nn.Module) -> Mapping[str, nn.Parameter]:
    found: dict[str, nn.Parameter] = {}
    for name, each in module.named_modules():
        if isinstance(each, Linear):
            found[name] = each.get_parameter("weight")
        elif stacks(each):
            own = {inner: w for inner, w in each.named_parameters(recurse=False) if w.ndim == 3}
            found |= {f"{name}.{inner}": weight for inner, weight in own.items()}
    return found
