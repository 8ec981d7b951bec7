"""The plan: what a run will compute and cost, before any weight moves.

Counts come from the configuration (the model is built on the meta device, without memory), speeds
from a short matrix product on the device that will do the work. A run that is too
large is answered with settings under which it fits.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch

from expunge.errors import ResourceError
from expunge.models.generation import LARGEST
from expunge.models.scoring import CHUNK
from expunge.planning.memory import GIB, MOMENTS, RunLayout, Size, memory
from expunge.planning.term_costs import Once, StepWork

MODEL_EFFICIENCY = 0.65
"""Share of the speed of a bare matrix product that a whole transformer reaches."""
SCORED_SHARE = 0.35
"""Share of an audit's tokens at which the head is computed."""
PROCESS_GIB = 0.6
"""What Python, PyTorch and transformers hold by themselves."""
SCORING = 4
"""Float32 copies of the logits of a chunk while the audit scores it."""
DECODE_BYTES_PER_SECOND = 8e9
"""Memory traffic that a CPU sustains while decoding; decoding reads every weight once a token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What a run is asked to do, in tokens."""

    steps: int
    step: StepWork
    once: Once
    trained: int
    """Trained scalars."""
    trained_body: int
    """Of these, in matrices of the blocks that a token passes."""
    adapter: bool
    """Whether they lie in an adapter beside frozen weights."""
    head_trains: bool
    gradient_tokens: int
    """Tokens whose gradients are taken before training, at three forward passes each."""
    audit_tokens: int
    """Tokens scored by the audit, all models and attacks."""
    audit_answers: int
    """New tokens written by the audit, and before training by the model itself."""
    copies: int = 0
    """Further float32 copies of what is trained, held by wrappers."""
    optimiser: str = "adamw"
    checkpointing: bool = False
    """Whether blocks compute again on the way back."""
    card: bool = False
    """Whether the device has memory of its own."""
    models: int = 1
    """Models that the audit holds at a time."""
    adversary: StepWork | None = None
    """What a step takes beside its gradients, at states alone: no weight has a gradient there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedCost:
    """What the run will cost."""

    tokens: int
    flops: float
    peak_gib: float
    disk_gib: float
    seconds: float

    def to_dict(self) -> dict[str, float]:
        """Return plain numbers."""
        return asdict(self)


def estimate(size: Size, load: Load, *, device: torch.device, dtype: torch.dtype) -> PlannedCost:
    """Estimate tokens, FLOPs, memory and time of a run."""
    scored = load.audit_tokens + load.gradient_tokens
    audit = scored * 2 * size.passed + SCORED_SHARE * scored * 2 * size.head
    flops = load.steps * step_flops(size, load) + once_flops(size, load.once) + audit
    layout = layout_of(load, dtype)
    weights = size.total * layout.bytes_each
    decode = load.audit_answers / 16 * weights / DECODE_BYTES_PER_SECOND
    if device.type != "cpu":
        decode = load.audit_answers / 16 * size.layers * 4e-4
    moving = 0.0 if load.adversary is None else load.adversary.tokens
    return PlannedCost(
        tokens=round(load.steps * (load.step.tokens + moving) + scored + load.audit_answers),
        flops=flops + load.audit_answers * 2 * (size.total - size.idle),
        peak_gib=peak_gib(size, layout),
        disk_gib=disk_gib(size, load, dtype),
        seconds=flops / (MODEL_EFFICIENCY * matmul_speed(size, device, dtype)) + decode,
    )


def disk_gib(size: Size, load: Load, dtype: torch.dtype) -> float:
    """Return what a run takes on disk at its peak, GiB, evidence and what wrappers keep left out.

    The model; the last checkpoint, and the next while it is written; the weights to fall back on;
    and what the lowest trained block reads, where that is computed once.
    """
    each = torch.finfo(dtype).bits // 8
    last, good = 4 + MOMENTS.get(load.optimiser, 8.0), 4
    below = each * size.width * load.once.below
    return (size.total * each + load.trained * (2 * last + good) + below) / GIB


def step_flops(size: Size, load: Load) -> float:
    """Return the FLOPs of the matrix products of one optimiser step.

    2 per parameter and token forward, as many for the gradient of the inputs down to the lowest
    trained block, as many for the gradients of trained matrices; an adapter is passed thrice. The
    head counts at scored positions, once more where its logits are computed again. An adversary's
    passes go down to the block that it moves, and take no gradients of weights but an adapter's.
    """
    step, moved, block = load.step, load.adversary, size.passed / size.layers
    trained = (6 if load.adapter else 2) * load.trained_body * step.tokens
    head = 6 if load.head_trains else 4
    heads = step.scored * head + (_again(load, step) + step.frozen) * 2
    blocks = step.forward * (2 if load.checkpointing else 1) + step.backward
    if moved is not None:
        heads += moved.scored * 4 + _again(load, moved) * 2
        blocks += moved.forward + moved.backward * (2 if load.checkpointing else 1)
        if load.adapter:
            passed = (2 + 4 * moved.backward / moved.forward) * moved.tokens
            trained += passed * load.trained_body
    return 2 * block * blocks + trained + heads * size.head


def _again(load: Load, step: StepWork) -> float:
    """Return at how many positions logits are computed a second time."""
    return step.again + (step.again_trained if load.head_trains else 0)


def once_flops(size: Size, once: Once) -> float:
    """Return the FLOPs of what is computed once before the first step."""
    return 2 * size.passed / size.layers * once.forward + 2 * size.head * once.scored


def layout_of(load: Load, dtype: torch.dtype) -> RunLayout:
    """Return how a run lies in the memory of one process.

    Args:
        load: What the run does.
        dtype: The format of the model's weights.
    """
    step = load.step
    passes = max(1.0, step.tokens / step.largest)
    return RunLayout(
        trained=load.trained,
        bytes_each=torch.finfo(dtype).bits // 8,
        optimiser=load.optimiser,
        checkpointing=load.checkpointing,
        tokens=step.tokens / passes,
        passes=passes,
        blocks=step.backward / step.tokens if step.tokens else 0.0,
        scored=min(step.scored / passes, 2 * CHUNK),
        frozen=min(step.frozen / passes, CHUNK),
        adapter=load.adapter,
        head_trains=load.head_trains,
        copies=load.copies,
        references=load.once.states,
        card=load.card,
        models=load.models,
    )


def peak_gib(size: Size, layout: RunLayout) -> float:
    """Return what a whole run holds at its peak, GiB: training, or the audit if that holds more.

    A run keeps the original's weights in host memory, to tell in the end what changed, and while
    its weights are spread over processes the model as well. While the audit mixes or rounds
    weights, it puts aside what they were, where the model lies; then it scores, or writes answers
    with a copy of the weights in another order.
    """
    one = layout.bytes_each * size.total / GIB
    host = 0.0 if layout.card else one * (2 if layout.spread else 1)
    aside = (
        one if layout.trained >= size.total - size.routers else layout.bytes_each * size.body / GIB
    )
    scoring = SCORING * 4 * CHUNK * size.vocabulary / GIB
    writing = 0.0 if layout.card or one * GIB > LARGEST else one
    training = memory(size, layout).total - layout.overhead
    runtime = layout.overhead if layout.spread else PROCESS_GIB
    return host + max(training, layout.models * one + aside + max(scoring, writing)) + runtime


PROBED = 1 << 32
"""Most operations of a matrix product that measures the speed of a processor."""


def matmul_speed(size: Size, device: torch.device, dtype: torch.dtype) -> float:
    """Measure FLOP/s of a matrix product of the model's own width, for less than a second."""
    rows = torch.randn(1024, size.width, device=device, dtype=dtype)
    columns = 4 * size.width
    if device.type == "cpu":  # a processor is as fast on a part of a wide matrix
        columns = min(columns, max(1, PROBED // (2 * rows.numel())))
    matrix = torch.randn(size.width, columns, device=device, dtype=dtype)
    best = 0.0
    for _ in range(5):
        started = time.perf_counter()
        result = rows
        for _ in range(4):
            result = rows @ matrix
        float(result[0, 0])  # waits for the device
        best = max(best, 4 * 2 * rows.numel() * columns / (time.perf_counter() - started))
    return best


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
