"""Where the parts of a transformer are, whatever its architecture calls them."""

import inspect

from torch import Tensor, nn
from transformers import PreTrainedModel

from expunge.errors import InputError


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


def cache_word(trunk: nn.Module) -> str:
    """Return how a model calls the keys and values it is given: `cache` in recent transformers."""
    named = inspect.signature(trunk.forward).parameters
    return "cache" if "cache" in named else "past_key_values"
