"""The plan: what a run will compute and cost, before any weight moves.

Counts come from the configuration (the model is built on the meta device, without memory), speeds
from a short matrix product on the device that will do the work.
"""

import time
from dataclasses import asdict, dataclass

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from expunge.engine.needs import Once, Step
from expunge.errors import ResourceError
from expunge.methods.terms import MLP_OUT
from expunge.model.score import CHUNK

GIB = 1024**3
MODEL_EFFICIENCY = 0.65
"""Share of the speed of a bare matrix product that a whole transformer reaches."""
SCORED_SHARE = 0.35
"""Share of an audit's tokens at which the head is computed."""
KEPT = 1.2
"""What a block keeps for the way back, as a share of the inputs and outputs of its matrices."""
PROCESS_GIB = 0.6
"""What Python, PyTorch and transformers hold by themselves."""
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
    mlp_out_share: float = 0.0
    """Share of the blocks' parameters in the matrices with which MLPs write."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What a run is asked to do, in tokens."""

    steps: int
    step: Step
    once: Once
    trained: int
    """Trained scalars."""
    trained_body: int
    """Of these, in matrices of the blocks."""
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


def estimate(size: Size, load: Load, *, device: torch.device, dtype: torch.dtype) -> Cost:
    """Estimate tokens, FLOPs, memory and time of a run."""
    scored = load.audit_tokens + load.gradient_tokens
    audit = scored * 2 * size.body + SCORED_SHARE * scored * 2 * size.head
    flops = load.steps * step_flops(size, load) + once_flops(size, load.once) + audit
    width = torch.finfo(dtype).bits // 8
    weights = size.total * width
    decode = load.audit_answers / 16 * weights / DECODE_BYTES_PER_SECOND
    if device.type != "cpu":
        decode = load.audit_answers / 16 * size.layers * 4e-4
    return Cost(
        tokens=round(load.steps * load.step.tokens + scored + load.audit_answers),
        flops=flops + load.audit_answers * 2 * size.total,
        peak_gib=(weights * 2 + step_bytes(size, load, dtype)) / GIB + PROCESS_GIB,
        disk_gib=(weights + load.trained * 12) / GIB,
        seconds=flops / (MODEL_EFFICIENCY * matmul_speed(size, device, dtype)) + decode,
    )


def step_flops(size: Size, load: Load) -> float:
    """Return the FLOPs of the matrix products of one optimiser step.

    2 per parameter and token forward, as many for the gradient of the inputs down to the lowest
    trained block, as many for the gradients of trained matrices; an adapter is passed thrice. The
    head counts at scored positions, once more where its logits are computed again.
    """
    step, block = load.step, size.body / size.layers
    trained = (6 if load.adapter else 2) * load.trained_body * step.tokens
    head = 6 if load.head_trains else 4
    heads = step.scored * head + step.again * 2 + step.frozen * 2
    return 2 * block * (step.forward + step.backward) + trained + heads * size.head


def once_flops(size: Size, once: Once) -> float:
    """Return the FLOPs of what is computed once before the first step."""
    return 2 * size.body / size.layers * once.forward + 2 * size.head * once.scored


def step_bytes(size: Size, load: Load, dtype: torch.dtype) -> float:
    """Return the bytes that training holds at its peak, beside the model.

    Gradients, both moments, and a float32 master where the model is narrower; what the blocks keep
    for the way back; the logits of two chunks, each as logits, log-probabilities and gradient.
    """
    width = torch.finfo(dtype).bits // 8
    optimiser = load.trained * ((12 if dtype == torch.float32 else 18) + 4 * load.copies)
    passes = max(1.0, load.step.tokens / load.step.largest)
    blocks = load.step.backward / load.step.tokens if load.step.tokens else 0.0
    live = load.step.tokens / passes
    kept = KEPT * size.linear_sides / size.layers * blocks * live * width
    logits = min(2 * CHUNK, load.step.scored / passes) * size.vocabulary * 4 * 3
    return optimiser + kept + logits


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
