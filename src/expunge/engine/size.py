"""The size of a model, counted from its configuration; nothing is allocated."""

from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from expunge.methods.terms import MLP_OUT

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
    mlp_out_share: float = 0.0
    """Share of the blocks' parameters in the matrices with which MLPs write."""


def measure(config: PreTrainedConfig) -> Size:
    """Count parameters from a configuration, without allocating weights."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    text = config.get_text_config()
    head = model.get_output_embeddings().weight.numel()
    embedding = model.get_input_embeddings().weight.numel()
    total = sum(parameter.numel() for parameter in model.parameters())
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    named = dict(model.base_model.named_modules())
    linear = [m for m in named.values() if isinstance(m, torch.nn.Linear)]
    written = [m for name, m in named.items() if name.endswith(MLP_OUT)]
    body = total - embedding - (0 if tied else head)
    return Size(
        total=total,
        body=body,
        head=head,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        vocabulary=text.vocab_size,
        linear_sides=sum(m.in_features + m.out_features for m in linear),
        mlp_out_share=sum(p.numel() for m in written for p in m.parameters()) / body,
    )
