"""Write docs/scale.md: the text below, with tables of what one device holds, by arithmetic.

python scripts/make_scale_page.py
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from transformers import LlamaConfig

from expunge.planning.memory import OVERHEAD, Memory, RunLayout, fewest, memory
from expunge.planning.model_size import Size, measure

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
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

TEXT = """# Scale: several processes, large models

    torchrun --nproc-per-node 8 -m expunge forget MODEL DATA --goal removal ...

`torchrun` starts the processes, one for each graphics card (NCCL) or on a CPU (gloo). The first one
prepares, audits, prints and writes; the others train with it. Nothing else about the command
changes, and a run that was stopped goes on with any other number of processes, also with one.
The run folder must lie where all processes can read and write it.

## What is divided, and what is equal

- The records of each step are dealt out in order of length. Every sum over records is divided by
  the counts of the whole step, so loss, gradient, clipping, multipliers and what `[combine]` and
  `[robust]` do are those of one process, up to the order in which floats are added
  (`tests/test_parallel.py`, two gloo processes, terms of all three kernels).
- Adapters, and the matrices that a method chooses for itself, are copied: each process holds the
  model, and gradients are added up.
- With `--full` all weights are spread by FSDP2: float32 parts with their gradient and moments, a
  block gathered in the model's own format while it runs. Masks that rank all weights are refused.
- Checkpoints are safetensors. Where weights are spread, each process writes its rows, and the
  checkpoint counts once the first process has named all parts in `last.safetensors`.
- A process that fails ends the others at once, and one that does not come to where all meet is
  given up after an hour (`tests/test_parallel.py`); the same command goes on from the last
  checkpoint. Only while the first one audits do the others wait longer.
- References, probes and the audit are not divided: every process computes the references it might
  need, the first one audits. Edits (`expunge methods`, family edit, arithmetic, influence) run in
  the first process alone.

## When memory is short

| setting | effect |
|---|---|
| `--set train.checkpointing=true` | activations are computed twice: same gradient, more time |
| `--set optimiser.name=adamw8bit` | moments take 2 bytes a number instead of 8 |
| `--set train.tokens_per_pass=2048` | fewer tokens in one pass: activations shrink with them |
| `--full` on more processes | every process holds a smaller part |

## What one card holds, by arithmetic

Formulas: `src/expunge/planning/memory.py`; `tests/test_plan_memory.py` holds them to the bytes of
live tensors of small models, within 15 %. 16-bit weights, {tokens} tokens in a pass, activation
checkpointing, GiB on each card of {card}. A Llama of that size; LoRA of rank {rank} on every linear
layer of the blocks. Gradients grow while activations are freed: the total counts the larger of
the two, and {overhead} GiB for the runtime.

{table}

Read: 8B fits one card as an adapter, and not with all weights: float32 masters, gradient and
moments take 16 bytes a number. {fewest}

70B does not fit eight cards of {card} GiB with all weights: 16 bytes a number are more than they
have together. As an adapter its frozen weights alone are larger than a card, and this version
copies them to every process. **So a 70B model cannot be unlearnt on eight cards yet.** What is
missing is small for training (spread the frozen weights, which the last line of the table shows to
fit) and larger for the audit, which wants the model on one device.

The table is of training. A run is checked before it starts by the same arithmetic with its own
tokens, wrappers and references, and with the audit, for which the first card holds the model and,
while weights are rounded or mixed, what they were: twice the weights, and once more with golds.

## Measured, and not

- Measured by the tests, on two CPU processes with a tiny model: equal losses, gradients, results;
  each process holds half of the masters; resuming from two processes to one and from one to two;
  a process that is killed, fails or hangs.
- Not measured: anything on a graphics card, the speed of several cards, and the lines of the table.
- Each process loads the model in full into host memory before it is spread.
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
    """Return the page."""
    lines = [
        "| run | cards | weights and masters | gradient | moments | gathered | activations, logits"
        " | total | fits |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
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
            numbers = " | ".join(f"{part:.1f}" for part in parts)
            lines.append(
                f"| {what} | {cards} | {numbers} | {'yes' if held.total <= CARD else 'no'} |"
            )
        for optimiser in ("adamw", "adamw8bit"):
            layout = RunLayout(trained=size.total, checkpointing=True, optimiser=optimiser)
            needed.append(f"{name} with {optimiser} {fewest(size, layout, gib=CARD)}")
    return TEXT.format(
        tokens=RunLayout(trained=0).tokens,
        card=CARD,
        overhead=OVERHEAD,
        rank=RANK,
        table="\n".join(lines),
        fewest=f"All weights need at least, in cards: {', '.join(needed)}.",
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
