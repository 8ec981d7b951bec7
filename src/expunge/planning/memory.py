"""Memory by arithmetic: what one process of a run holds, for any model and number of devices.

The size of a model is counted from its configuration; nothing is allocated.

    weights        b N          b bytes a weight in the model's format; N / p of them where spread
    masters        4 T          float32, of what is trained: T numbers, T / p where spread
    gradient       4 T
    moments        8 T          AdamW; 2 T + T / 64 with `adamw8bit`; 0 without an optimiser
    copies         4 c T        c of them, where wrappers hold some; b V d more where the original's
                                head is kept beside one that trains
    references     b d r        r hidden states of the original, in host memory
    gathered       2 b N_block + b N_outside   where spread: one block, the next, and what lies
                                               outside the blocks
    activations    b s (K - R) l         s tokens in one pass, l blocks that gradients pass
                   b s d l               with checkpointing: what each block reads
    one block      1.4 b s K             the last one to be gone through, or to be computed again,
                                         with the gradients that pass through it
    made again     5 b s f               in one gated MLP of width f, without checkpointing
    logits         4 V (2 n + 4 m)       n positions scored at a time, m of them also by the
                                         original's head; float32

K = 1.2 times the inputs and outputs of all matrices of a block (of experts, those that a token is
sent to), which a gated block keeps in full, with what its two norms and its attention keep; 1.0
times where its weights are frozen under an adapter; 2 d more in 16-bit formats, in which norms are
computed in float32; and what GELU keeps where it is written out (GPT-2, Phi). R is what
`training/activation_checkpointing.py` makes again: 2 f for a gated MLP of width f; for each RMS
norm its width where its weight trains, and once more in 16-bit formats. Gradients grow while
activations are freed, so what counts is the larger of

    activations + logits (or what is made again of one MLP or, with checkpointing, of one block, if
                           that is larger) + the gradient that is there at the top (the head's;
                           all, from the second pass of a step on)
    gradient + one block

`tests/planning/test_planned_memory.py` holds this to the bytes that live tensors take, within 15 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn
from transformers import PreTrainedConfig
from transformers.activations import NewGELUActivation

from expunge.methods.base import Trains
from expunge.models.architecture import (
    Linear,
    chosen_experts,
    decoder_layers,
    linear_layers,
    names_routers,
    picked,
    router_weights,
    routers,
    stacks,
)
from expunge.models.loading import meta_model
from expunge.models.lora import LoraShape
from expunge.models.scoring import CHUNK
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
    routers: int = 0
    """Of `body`, weights of routers, which are frozen unless targets name them."""
    idle: int = 0
    """Of `experts`, weights of those that a token is not sent to."""

    @property
    def passed(self) -> int:
        """Parameters of the blocks that a token passes."""
        return self.body - self.idle


def measure(config: PreTrainedConfig) -> Size:
    """Count parameters from a configuration, without allocating weights."""
    model = meta_model(config)
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
        routers=sum(weight.numel() for weight in router_weights(decoder_layers(model))),
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

    Of a single expert the tensor of all experts counts: so much is held to train it.

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


def targets_routers(config: PreTrainedConfig, targets: Sequence[str]) -> bool:
    """Tell whether targets name the routers of a model, so that these train."""
    return names_routers(_blocks(config), targets)


def targets_experts(config: PreTrainedConfig, trains: Trains) -> bool:
    """Tell whether single experts are meant that lie in one tensor with others."""
    return bool(chosen_experts(_blocks(config), trains))


def has_routers(config: PreTrainedConfig) -> bool:
    """Tell whether a model is a mixture of experts, without allocating weights."""
    return any(map(routers, _blocks(config)))


def _blocks(config: PreTrainedConfig) -> nn.ModuleList:
    return decoder_layers(meta_model(config))


KEPT = 1.2
"""What a block keeps for the way back, as a share of the inputs and outputs of its matrices."""
KEPT_FROZEN = 1.0
"""The same under an adapter."""
PASSING = 1.4
"""A block on its way back, gradients included, as a share of what it keeps."""
GATED = 5
"""Results as wide as a gated MLP that are there while gradients pass it, beside what was kept."""
MOMENTS = {"adamw": 8.0, "adamw8bit": 2 + 1 / 64, "sophia": 8.0, "normalised-sgd": 0.0}
"""Bytes of optimiser state for each trained number."""
OVERHEAD = 1.5
"""GiB for the runtime, communication buffers and fragmentation on a graphics card."""
MOST_PROCESSES = 1024
"""Where `fewest` stops looking."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLayout:
    """How a run is laid out."""

    trained: int
    """Trained numbers; as many as the model has for all weights."""
    bytes_each: int = 2
    """Bytes of a weight in the model's format."""
    processes: int = 1
    spread: bool = False
    """Whether all weights are spread over the processes, by FSDP2."""
    optimiser: str = "adamw"
    """A key of `MOMENTS`; any other is taken to hold as much as AdamW."""
    checkpointing: bool = False
    tokens: float = 4096
    """Tokens in one forward pass of one process."""
    passes: float = 1.0
    """Forward passes of a step."""
    blocks: float | None = None
    """Blocks that gradients pass; None: all."""
    scored: float = CHUNK
    """Positions whose logits exist at the same time."""
    frozen: float = 0.0
    """Of these, positions at which the original's head is applied, too."""
    adapter: bool = False
    """Whether what is trained lies beside frozen weights."""
    head_trains: bool = True
    copies: int = 0
    """Further float32 copies of what is trained."""
    references: float = 0.0
    """Hidden states of the original that are kept, vectors of the model's width."""
    card: bool = False
    """Whether the device has memory of its own, of which what lies in host memory takes nothing."""
    models: int = 1
    """Models that the audit holds at a time."""
    overhead: float = OVERHEAD
    """GiB that the runtime holds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """GiB that one process holds, by what for."""

    weights: float
    masters: float
    moments: float
    copies: float
    references: float
    gathered: float
    gradient: float
    early: float
    """Of the gradient, what is there while activations are at their most."""
    activations: float
    one_block: float
    """Activations of one block, and the gradients that pass through it."""
    again: float
    """Those that are made again while the others are at their most: of one block, or one MLP."""
    logits: float
    overhead: float

    @property
    def total(self) -> float:
        """All that is there at the peak of a step."""
        always = self.weights + self.masters + self.moments + self.copies + self.references
        forward = self.early + self.activations + max(self.logits, self.again)
        moving = max(forward, self.gradient + self.one_block)
        return always + self.gathered + moving + self.overhead


def memory(size: Size, layout: RunLayout) -> Memory:
    """Return what one process holds.

    Args:
        size: The model.
        layout: What is trained, where and how.
    """
    each, parts = layout.bytes_each, layout.processes if layout.spread else 1
    block, outside = size.body / size.layers, size.total - size.body
    trained = layout.trained / parts
    own_copy = not layout.spread and each < 4
    depth = size.layers if layout.blocks is None else layout.blocks
    share = KEPT_FROZEN if layout.adapter else KEPT
    sides, beside = size.linear_sides + size.expert_sides, size.written_out / size.layers
    kept = share * sides / size.layers + beside + (2 * size.width if each < 4 else 0)
    gated, normed = size.gated / size.layers, size.normed / size.layers
    spared = 2 * gated + normed * (int(not layout.adapter) + int(each < 4))
    one = PASSING * min(1.0, depth) * kept
    live = each * layout.tokens
    head = each * size.head if layout.frozen and layout.head_trains else 0
    early = min(size.head / parts, trained) if layout.head_trains and not layout.adapter else 0.0
    held = {
        "weights": 0.0 if layout.spread else each * size.total,
        "masters": 4 * trained if layout.spread or own_copy else 0.0,
        "moments": MOMENTS.get(layout.optimiser, 8.0) * trained,
        "copies": 4 * layout.copies * trained + head,
        "references": 0.0 if layout.card else each * size.width * layout.references,
        "gathered": each * (2 * block + outside) if layout.spread else 0.0,
        "gradient": 4 * trained,
        "early": 4 * trained if layout.passes > 1 else 4 * early,
        "activations": live * depth * (size.width if layout.checkpointing else kept - spared),
        "one_block": live * one,
        "again": live * (one if layout.checkpointing else GATED * min(1.0, depth) * gated),
        "logits": 4 * size.vocabulary * (2 * layout.scored + 4 * layout.frozen),
    }
    gib = {name: value / GIB for name, value in held.items()}
    return Memory(**gib, overhead=layout.overhead)


def fewest(size: Size, layout: RunLayout, *, gib: float) -> int | None:
    """Return how many processes of `gib` each a spread run needs at least; None: no number will do.

    Args:
        size: The model.
        layout: Its number of processes is not read.
        gib: Memory of one device.
    """
    for processes in range(1, MOST_PROCESSES + 1):
        if memory(size, replace(layout, processes=processes, spread=True)).total <= gib:
            return processes
    return None
