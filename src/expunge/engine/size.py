"""The size of a model, counted from its configuration; nothing is allocated."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig

from expunge.errors import UsageError
from expunge.methods.terms import Trains
from expunge.model.parts import decoder_layers

GIB = 1024**3


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """Parameter counts of a model."""

    total: int
    body: int
    """Parameters of the blocks: the matrices that every token passes."""
    head: int
    layers: int
    width: int
    vocabulary: int
    linear_sides: int
    """Inputs plus outputs of all linear layers of the blocks: LoRA weights per unit of rank."""


def measure(config: PreTrainedConfig) -> Size:
    """Count parameters from a configuration, without allocating weights."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    text = config.get_text_config()
    head = model.get_output_embeddings().weight.numel()
    embedding = model.get_input_embeddings().weight.numel()
    total = sum(parameter.numel() for parameter in model.parameters())
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    linear = [m for m in model.base_model.modules() if isinstance(m, nn.Linear)]
    body = total - embedding - (0 if tied else head)
    return Size(
        total=total,
        body=body,
        head=head,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        vocabulary=text.vocab_size,
        linear_sides=sum(m.in_features + m.out_features for m in linear),
    )


def count_chosen(config: PreTrainedConfig, trains: Trains) -> int:
    """Count the scalars of the modules that are meant, without allocating weights."""
    return sum(weight.numel() for weight in picked(_blocks(config), trains))


def require_modules(config: PreTrainedConfig, trains: Trains) -> None:
    """Check that the blocks of a model have modules that are meant, without allocating weights.

    Raises:
        UsageError: They have none.
    """
    blocks = _blocks(config)
    if picked(blocks, trains):
        return
    own = [name for name, module in blocks[0].named_modules() if isinstance(module, nn.Linear)]
    raise UsageError(
        "no-such-modules",
        what=f"no module of this model is named {' or '.join(trains.modules)}",
        why=f"the matrices of its blocks are {', '.join(own)}",
        fix="name these, or parts after the last dot, or a regular expression, in train.targets",
    )


def _blocks(config: PreTrainedConfig) -> nn.ModuleList:
    with torch.device("meta"):
        return decoder_layers(AutoModelForCausalLM.from_config(config))


def picked(blocks: nn.ModuleList, trains: Trains) -> list[nn.Parameter]:
    """Return the parameters of the modules that are meant, each once."""
    found = {
        id(weight): weight
        for block in list(blocks)[trains.first_layer : trains.last_layer + 1]
        for name, module in block.named_modules()
        if trains.takes(name)
        for weight in module.parameters()
    }
    return list(found.values())
