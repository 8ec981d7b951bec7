"""What one device holds when a model is trained, by arithmetic."""

from collections.abc import Iterator
from dataclasses import replace

from transformers import LlamaConfig

from docs_pages.markdown import GENERATED, table
from docs_pages.registries import OVERHEAD, Memory, RunLayout, Size, fewest, measure, memory

CARD = 80
"""GiB of one card."""
RANK = 16
MODELS = {
    "8B": LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
    ),
    "70B": LlamaConfig(
        vocab_size=128256,
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
    ),
}

_TEXT = """# Memory at scale

[Use several GPUs](../how-to/many-gpus.md) explains the commands. This page is arithmetic, not
measurement: the planner's formulas, which tests compare with live tensors of small models (15 %).

16-bit weights, {tokens} tokens in a pass, activation checkpointing, GiB on each card of {card}.
LoRA has rank {rank} on every linear layer of the blocks. Gradients grow while activations are
freed, so the total counts the larger of the two. The runtime takes {overhead} GiB.

{table}

{fewest}

## What this means

- 8B fits one card with LoRA. With all weights it needs two: float32 masters, gradient and moments
  take 16 bytes per weight.
- 70B does not fit eight cards of {card} GiB with all weights.
- 70B with LoRA does not fit either: this version copies frozen weights to every process.
- The audit needs the model on one device, and up to twice its weights while it rounds them.

A run is checked before it starts, with its own tokens, wrappers, references and audit.

## Measured, and not

- Measured on two CPU processes with a tiny model: equal losses, gradients and results; half of the
  masters per process; resuming on another number of processes; processes that die or hang.
- Not measured: anything on a graphics card, and the speed of several cards.
"""


def rows(name: str, size: Size) -> Iterator[tuple[str, int, Memory]]:
    """Yield what is run, on how many cards, and what one of them holds."""
    adapter = size.linear_sides * RANK
    plain = RunLayout(trained=adapter, checkpointing=True, adapter=True, head_trains=False)
    full = RunLayout(trained=size.total, checkpointing=True, spread=True)
    yield f"{name}, LoRA", 1, memory(size, plain)
    for cards in (1, 2, 4, 8, 16):
        for optimiser in ("adamw", "adamw8bit"):
            layout = replace(full, processes=cards, optimiser=optimiser, spread=cards > 1)
            yield f"{name}, all weights, {optimiser}", cards, memory(size, layout)
    spread = replace(plain, trained=0, processes=8, spread=True)
    small = memory(size, plain)
    frozen = replace(
        memory(size, spread),
        weights=2 * size.total / 8 / 1024**3,
        masters=small.masters,
        gradient=small.gradient,
        moments=small.moments,
    )
    yield f"{name}, LoRA over spread weights (not built)", 8, frozen


def page() -> str:
    """Return the text of the page."""
    lines: list[tuple[object, ...]] = []
    needed: list[str] = []
    for name, config in MODELS.items():
        size = measure(config)
        for what, cards, held in rows(name, size):
            parts = (
                held.weights + held.masters,
                held.gradient,
                held.moments,
                held.gathered,
                held.activations + held.logits,
                held.total,
            )
            fits = "yes" if held.total <= CARD else "no"
            lines.append((what, cards, *(f"{part:.1f}" for part in parts), fits))
        for optimiser in ("adamw", "adamw8bit"):
            layout = RunLayout(trained=size.total, checkpointing=True, optimiser=optimiser)
            needed.append(f"{name} with {optimiser} {fewest(size, layout, gib=CARD)}")
    head = ("run", "cards", "weights and masters", "gradient", "moments", "gathered")
    return GENERATED + _TEXT.format(
        tokens=RunLayout(trained=0).tokens,
        card=CARD,
        overhead=OVERHEAD,
        rank=RANK,
        table=table((*head, "activations, logits", "total", "fits"), lines),
        fewest=f"All weights need at least, in cards: {', '.join(needed)}.",
    )
