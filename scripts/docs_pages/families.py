"""Families of models: what a request for each begins with, and memory by the planner's formulas."""

from collections.abc import Iterator

from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from docs_pages.markdown import GENERATED, table
from docs_pages.registries import FAMILIES, OVERHEAD, RunLayout, measure, memory

RANK = 16


def _shape(
    width: int, inner: int, layers: int, heads: int, shared: int, words: int, **more: int | bool
) -> dict[str, int | bool]:
    """Return the published shape of a model in the words of its configuration."""
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": shared,
        "vocab_size": words,
        "pad_token_id": 0,
        **more,
    }


_TIED = {"tie_word_embeddings": True}
_UNTIED = {"tie_word_embeddings": False}
MEMBERS: dict[str, tuple[tuple[str, PreTrainedConfig], ...]] = {
    "llama": (
        ("3.2 1B", LlamaConfig(**_shape(2048, 8192, 16, 32, 8, 128256, **_TIED))),
        ("3.1 8B", LlamaConfig(**_shape(4096, 14336, 32, 32, 8, 128256))),
        ("3.1 70B", LlamaConfig(**_shape(8192, 28672, 80, 64, 8, 128256))),
    ),
    "qwen": (
        ("3 1.7B", Qwen3Config(**_shape(2048, 6144, 28, 16, 8, 151936, head_dim=128, **_TIED))),
        ("3 8B", Qwen3Config(**_shape(4096, 12288, 36, 32, 8, 151936, head_dim=128, **_UNTIED))),
        ("2.5 72B", Qwen2Config(**_shape(8192, 29568, 80, 64, 8, 152064, **_UNTIED))),
    ),
    "gemma": (
        ("3 1B", Gemma3TextConfig(**_shape(1152, 6912, 26, 4, 1, 262144, head_dim=256))),
        ("2 9B", Gemma2Config(**_shape(3584, 14336, 42, 16, 8, 256000, head_dim=256))),
    ),
    "mistral": (
        ("7B v0.3", MistralConfig(**_shape(4096, 14336, 32, 32, 8, 32768))),
        ("Large 123B", MistralConfig(**_shape(12288, 28672, 88, 96, 8, 32768, head_dim=128))),
    ),
    "phi": (
        ("4 mini", Phi3Config(**_shape(3072, 8192, 32, 24, 8, 200064, **_TIED))),
        ("4 14B", Phi3Config(**_shape(5120, 17920, 40, 40, 10, 100352))),
    ),
}
"""Published shapes of some members, smallest first."""

_TEXT = """# Families of models

```bash
expunge init erasure --family llama
```

writes a request with the modules of the family and a model of it. `--model` names another member.

{families}

The chat template is that of the model: `template = "auto"`. Models without one are asked in plain
text. Families that are not listed work too: `targets` is empty by default, which means all linear
modules of the blocks.

## Memory

GiB on one device, by the planner's formulas: 16-bit weights, {tokens} tokens in a pass, activation
checkpointing. LoRA has rank {rank} on every linear module of the blocks. All weights are trained
with AdamW. The runtime takes {overhead} GiB. Nothing here was measured.

{memory}

`expunge plan` says it for your own data, and what would make it fit.
[Memory at scale](../results/scale.md) has several devices.
"""


def rows() -> Iterator[tuple[str, ...]]:
    """Yield the family, the member, its parameters, and GiB for LoRA and for all weights."""
    for family, members in MEMBERS.items():
        for name, config in members:
            size = measure(config)
            lora = RunLayout(
                trained=size.linear_sides * RANK,
                checkpointing=True,
                adapter=True,
                head_trains=False,
            )
            full = RunLayout(trained=size.total, checkpointing=True)
            held = (memory(size, layout).total for layout in (lora, full))
            yield family, name, f"{size.total / 1e9:.1f}", *(f"{gib:.1f}" for gib in held)


def page() -> str:
    """Return the text of the page."""
    named = (
        (name, f"`{each.model}`", ", ".join(f"`{part}`" for part in each.targets), each.note)
        for name, each in FAMILIES.items()
    )
    return GENERATED + _TEXT.format(
        families=table(("family", "model", "modules", "to know"), named),
        tokens=RunLayout(trained=0).tokens,
        rank=RANK,
        overhead=OVERHEAD,
        memory=table(("family", "member", "billions", "LoRA", "all weights"), rows()),
    )
