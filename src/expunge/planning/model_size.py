"""The size of a model, counted from its configuration; nothing is allocated."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.activations import NewGELUActivation

from expunge.methods.base import Trains
from expunge.models.architecture import Linear, decoder_layers, linear_layers, picked, stacks
from expunge.models.lora import LoraShape
from expunge.training.activation_checkpointing import is_gated, is_rms_norm

GIB = 1024**3
WRITTEN_OUT = 3
"""Results as wide as its input that GELU as GPT-2 computes it keeps, step by step, beside what the
matrices around it keep."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """Parameter counts of a model."""

    total: int
    body: int
    """Parameters of the blocks."""
    head: int
    layers: int
    width: int
    vocabulary: int
    linear_sides: int
    """Inputs plus outputs of all linear layers of the blocks: LoRA weights per unit of rank."""
    expert_sides: int = 0
    """Inputs plus outputs of the experts that a token is sent to, where they lie in one tensor."""
    experts: int = 0
    """Of `body`, weights of experts that lie in one tensor: no adapter reaches them."""
    written_out: int = 0
    """Further results that the activation functions of the blocks keep for the way back."""
    gated: int = 0
    """Widths of the gated MLPs of the blocks whose hidden states are not kept but made again."""
    normed: int = 0
    """Widths of the RMS norms of the blocks, likewise."""
    idle: int = 0
    """Of `experts`, weights of those that a token is not sent to."""

    @property
    def passed(self) -> int:
        """Parameters of the blocks that a token passes."""
        return self.body - self.idle


def measure(config: PreTrainedConfig) -> Size:
    """Count parameters from a configuration, without allocating weights."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    text = config.get_text_config()
    head = model.get_output_embeddings().weight.numel()
    embedding = model.get_input_embeddings().weight.numel()
    total = sum(parameter.numel() for parameter in model.parameters())
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    body = total - embedding - (0 if tied else head)
    modules = list(decoder_layers(model).modules())
    experts = [each for module in modules for each in stacks(module)]
    sent = [min(_sent(text) or len(each), len(each)) for each in experts]
    return Size(
        total=total,
        body=body,
        head=head,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        vocabulary=text.vocab_size,
        linear_sides=sum(sum(m.weight.shape) for m in modules if isinstance(m, Linear)),
        expert_sides=sum(n * sum(each.shape[1:]) for n, each in zip(sent, experts, strict=True)),
        experts=sum(each.numel() for each in experts),
        written_out=WRITTEN_OUT * sum(map(_written_out, modules)),
        gated=sum(m.get_parameter("up_proj.weight").shape[0] for m in modules if is_gated(m)),
        normed=sum(m.get_parameter("weight").numel() for m in modules if is_rms_norm(m)),
        idle=sum((len(e) - n) * e[0].numel() for n, e in zip(sent, experts, strict=True)),
    )


def _sent(text: PreTrainedConfig) -> int | None:
    """Return how many experts a token is sent to; None where the configuration does not say."""
    count = getattr(text, "num_experts_per_tok", None)
    return count if isinstance(count, int) else None


def _written_out(module: nn.Module) -> int:
    """Return the width of the GELU among a module's own parts: that of what its matrix makes."""
    parts = list(module.children())
    if not any(isinstance(part, NewGELUActivation) for part in parts):
        return 0
    return max((max(part.weight.shape) for part in parts if isinstance(part, Linear)), default=0)


def count_chosen(config: PreTrainedConfig, trains: Trains) -> int:
    """Count the scalars of the modules that are meant, without allocating weights.

    Raises:
        UsageError: As `picked`.
    """
    return sum(weight.numel() for weight in picked(_blocks(config), trains))


def count_adapter(config: PreTrainedConfig, shape: LoraShape) -> int:
    """Count the scalars of an adapter, without allocating weights.

    Raises:
        UsageError: As `linear_layers`.
    """
    blocks = _blocks(config)
    layers = linear_layers(blocks, shape.place(len(blocks))).values()
    return shape.rank * sum(sum(layer.weight.shape) for layer in layers)


def _blocks(config: PreTrainedConfig) -> nn.ModuleList:
    with torch.device("meta"):
        return decoder_layers(AutoModelForCausalLM.from_config(config))
