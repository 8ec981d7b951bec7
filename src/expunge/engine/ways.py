"""Ways to fit: what a run that is too large would hold with other settings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from expunge.engine.memory import Layout
from expunge.engine.plan import Cost, Load, layout_of, peak_gib
from expunge.engine.size import Size
from expunge.errors import ResourceError

RANK = 16
"""Of the adapter that is proposed instead of all weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """A change of settings, and what the run would hold with it."""

    settings: tuple[str, ...]
    """Each as it is given to `--set`."""
    peak_gib: float
    stage: int = 0
    """Number of the stage of a chain that they belong to; 0 where there is no chain."""

    def __str__(self) -> str:
        """Return the flags, or the lines of the stage that no flag reaches, and the GiB."""
        if self.stage:
            words = f"{', '.join(self.settings)} in [[stage]] number {self.stage}"
        else:
            words = " ".join(f"--set {each}" for each in self.settings)
        return f"{words} ({self.peak_gib:.1f} GiB)"


def require_memory(cost: Cost, available_gib: float, ways: Sequence[Way]) -> None:
    """Refuse a plan that cannot fit, and say what would.

    Args:
        cost: Of the run as planned.
        available_gib: What the device has.
        ways: What the run would take with other settings.

    Raises:
        ResourceError: The peak is above what the device has.
    """
    if cost.peak_gib <= available_gib:
        return
    fitting = [way for way in ways if way.peak_gib <= available_gib]
    fix = ", or ".join(map(str, fitting[:3]))
    if not fitting:
        least = min(ways, key=lambda way: way.peak_gib, default=None)
        asked = "" if least is None else f"; the least found is {least.peak_gib:.1f} GiB"
        fix = f"use a larger device or a smaller model{asked}"
    raise ResourceError(
        "does-not-fit",
        what=f"the run needs about {cost.peak_gib:.1f} GiB, the device has {available_gib:.1f}",
        why="weights, optimiser state and activations must be there at the same time",
        fix=fix,
    )


def ways(size: Size, load: Load, dtype: torch.dtype, *, longest: int) -> tuple[Way, ...]:
    """Return what a training run would hold with other settings, the mildest change first.

    Args:
        size: The model.
        load: The run as planned.
        dtype: Its number format.
        longest: Tokens of the longest record, the least that one pass can hold.
    """
    layout = layout_of(size, load, dtype)
    found: list[tuple[tuple[str, ...], Layout]] = [
        (("train.checkpointing=true",), replace(layout, checkpointing=True))
    ]
    half = int(layout.tokens / 2)
    if half >= longest:
        found.append(((f"train.tokens_per_pass={half}",), _cut(layout, half)))
    if layout.optimiser == "adamw":
        found.append((("optimiser.name=adamw8bit",), replace(layout, optimiser="adamw8bit")))
    if dtype == torch.float32:
        found.append((("precision=bf16",), replace(layout, bytes_each=2)))
    small = layout
    words: list[str] = []
    if load.head_trains:
        small = _adapted(size, layout)
        words.append("train.full=false")
        found.append((tuple(words), small))
    if small.adapter and load.step.lowest is None:  # a term that reads a block needs it trained
        upper = size.layers // 2
        small = _upper(size, small, upper)
        words.append(f"train.first_layer={upper}")
        found.append((tuple(words), small))
    smallest = replace(_cut(small, min(longest, small.tokens)), checkpointing=True)
    words += ["train.checkpointing=true", f"train.tokens_per_pass={longest}"]
    found.append((tuple(words), smallest))
    return tuple(Way(settings=words, peak_gib=peak_gib(size, each)) for words, each in found)


def _cut(layout: Layout, tokens: float) -> Layout:
    """Cut the passes of a step so that one holds fewer tokens."""
    share = tokens / layout.tokens
    return replace(
        layout,
        tokens=tokens,
        passes=layout.passes / share,
        scored=layout.scored * share,
        frozen=layout.frozen * share,
    )


def _adapted(size: Size, layout: Layout) -> Layout:
    return replace(
        layout, trained=size.linear_sides * RANK, adapter=True, head_trains=False, blocks=None
    )


def _upper(size: Size, layout: Layout, first: int) -> Layout:
    """Leave the blocks below `first` out."""
    depth = size.layers if layout.blocks is None else layout.blocks
    left = min(depth, size.layers - first)
    return replace(layout, blocks=left, trained=round(layout.trained * left / depth))
