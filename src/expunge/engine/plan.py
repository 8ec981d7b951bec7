"""The plan: what a run will compute and cost, before any weight moves.

Counts come from the configuration (the model is built on the meta device, without memory), speeds
from a short matrix product on the device that will do the work.
"""

import time
from dataclasses import asdict, dataclass

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from expunge.errors import ResourceError

GIB = 1024**3
MODEL_EFFICIENCY = 0.65
"""Share of the speed of a bare matrix product that a whole transformer reaches."""
DECODE_BYTES_PER_SECOND = 8e9
"""Memory traffic that a CPU sustains while decoding; decoding reads every weight once a token."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What a run is asked to do, in tokens."""

    steps: int
    step_tokens: int
    """Tokens of one optimiser step, forget and retain."""
    step_scored: int
    """Of these, tokens that are scored."""
    trained: int
    """Trained scalars."""
    first_trained_layer: int
    reference_tokens: int
    """Tokens scored once before training."""
    audit_tokens: int
    """Tokens scored by the audit, all models and attacks."""
    audit_answers: int
    """New tokens written by the audit, and before training by the model itself."""
    tokens_per_pass: int
    copies: int = 0
    """Further float32 copies of what is trained, held by wrappers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What the run will cost."""

    tokens: int
    flops: float
    peak_gib: float
    disk_gib: float
    seconds: float

    def to_dict(self) -> dict[str, float]:
        """Return plain numbers."""
        return asdict(self)


def measure(config: PreTrainedConfig) -> Size:
    """Count parameters from a configuration, without allocating weights."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    text = config.get_text_config()
    head = model.get_output_embeddings().weight.numel()
    embedding = model.get_input_embeddings().weight.numel()
    total = sum(parameter.numel() for parameter in model.parameters())
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    linear = [m for m in model.base_model.modules() if isinstance(m, torch.nn.Linear)]
    return Size(
        total=total,
        body=total - embedding - (0 if tied else head),
        head=head,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        vocabulary=text.vocab_size,
        linear_sides=sum(m.in_features + m.out_features for m in linear),
    )


def estimate(size: Size, load: Load, *, device: torch.device, dtype: torch.dtype) -> Cost:
    """Estimate tokens, FLOPs, memory and time of a run.

    One forward pass costs 2 FLOPs per body parameter and token; gradients through frozen weights as
    much again down to the lowest trained block, weight gradients of trained matrices the rest.
    """
    depth = 1 - load.first_trained_layer / size.layers
    adapter = load.trained < size.body / 2
    backward = 2 * size.body * depth * (1 if adapter else 2)
    train = load.step_tokens * (2 * size.body + backward) + load.step_scored * 6 * size.head
    scored = load.reference_tokens + load.audit_tokens
    score = scored * 2 * size.body + 0.35 * scored * 2 * size.head
    flops = load.steps * train + score
    width = torch.finfo(dtype).bits // 8
    weights = size.total * width
    optimiser = load.trained * ((12 if dtype == torch.float32 else 18) + 4 * load.copies)
    live = min(load.tokens_per_pass, load.step_tokens)
    activations = live * size.layers * size.width * 34 * width * depth
    logits = min(512, load.step_scored) * size.vocabulary * 4 * 4
    decode = load.audit_answers / 16 * weights / DECODE_BYTES_PER_SECOND
    if device.type != "cpu":
        decode = load.audit_answers / 16 * size.layers * 4e-4
    return Cost(
        tokens=load.steps * load.step_tokens + scored + load.audit_answers,
        flops=flops + load.audit_answers * 2 * size.total,
        peak_gib=(weights * 2 + optimiser + activations + logits) / GIB + 0.6,
        disk_gib=(weights + load.trained * 12) / GIB,
        seconds=flops / (MODEL_EFFICIENCY * matmul_speed(size, device, dtype)) + decode,
    )


def matmul_speed(size: Size, device: torch.device, dtype: torch.dtype) -> float:
    """Measure FLOP/s of a matrix product of the model's own shape, for about 0.2 s."""
    rows = torch.randn(1024, size.width, device=device, dtype=dtype)
    matrix = torch.randn(size.width, 4 * size.width, device=device, dtype=dtype)
    best = 0.0
    for _ in range(5):
        started = time.perf_counter()
        result = rows
        for _ in range(4):
            result = rows @ matrix
        float(result[0, 0])  # waits for the device
        best = max(best, 4 * 2 * rows.numel() * 4 * size.width / (time.perf_counter() - started))
    return best


def require_memory(cost: Cost, available_gib: float, *, full: bool) -> None:
    """Refuse a plan that cannot fit.

    Raises:
        ResourceError: The peak is above what the device has.
    """
    if cost.peak_gib > available_gib:
        raise ResourceError(
            "does-not-fit",
            what=f"the run needs about {cost.peak_gib:.1f} GiB, the device has {available_gib:.1f}",
            why="weights, optimiser state and activations must be there at the same time",
            fix="train an adapter instead of --full"
            if full
            else "lower train.tokens_per_pass, or use a larger device",
        )
