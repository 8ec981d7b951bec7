"""Ways to fit: what a run that is too large would hold with other settings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from expunge.errors import ResourceError
from expunge.planning.cost import Load, PlannedCost, layout_of, peak_gib
from expunge.planning.memory import RunLayout
from expunge.planning.model_size import Size


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


def require_memory(cost: PlannedCost, available_gib: float, ways: Sequence[Way]) -> None:
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


def ways(
    size: Size,
    load: Load,
    dtype: torch.dtype,
    *,
    longest: int,
    narrows: bool,
    smaller: Sequence[tuple[tuple[str, ...], Load]],
) -> tuple[Way, ...]:
    """Return what a training run would hold with other settings, the mildest change first.

    Args:
        size: The model.
        load: The run as planned.
        dtype: Its number format.
        longest: Tokens of the longest record, the least that one pass can hold.
        narrows: Whether a format of 16 bits will do.
        smaller: Settings under which less is trained, and the run under them, mildest first.
    """
    layout = layout_of(load, dtype)
    found: list[tuple[tuple[str, ...], RunLayout]] = [
        (("train.checkpointing=true",), replace(layout, checkpointing=True))
    ]
    half = int(layout.tokens / 2)
    if half >= longest:
        found.append(((f"train.tokens_per_pass={half}",), _cut(layout, half)))
    if layout.optimiser == "adamw":
        found.append((("optimiser.name=adamw8bit",), replace(layout, optimiser="adamw8bit")))
    if dtype == torch.float32 and narrows:
        found.append((("precision=bf16",), replace(layout, bytes_each=2)))
    found += [(words, layout_of(each, dtype)) for words, each in smaller]
    words, small = found[-1] if smaller else ((), layout)
    smallest = replace(_cut(small, min(longest, small.tokens)), checkpointing=True)
    words = (*words, "train.checkpointing=true", f"train.tokens_per_pass={longest}")
    found.append((words, smallest))
    made = [Way(settings=words, peak_gib=peak_gib(size, each)) for words, each in found]
    return tuple(way for way in made if way.peak_gib <= peak_gib(size, layout))


def _cut(layout: RunLayout, tokens: float) -> RunLayout:
    """Cut the passes of a step so that one holds fewer tokens."""
    share = tokens / layout.tokens
    return replace(
        layout,
        tokens=tokens,
        passes=layout.passes / share,
        scored=layout.scored * share,
        frozen=layout.frozen * share,
    )
