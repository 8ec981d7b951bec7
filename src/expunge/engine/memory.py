"""Memory by arithmetic: what one process of a run holds, for any model and number of devices.

    weights        b N          b bytes a weight in the model's format; N / p of them where spread
    masters        4 T          float32, of what is trained: T numbers, T / p where spread
    gradient       4 T
    moments        8 T          AdamW; 2 T + T / 64 with `adamw8bit`; 0 without an optimiser
    gathered       2 b N_block + b N_outside   where spread: one block, the next, and what lies
                                               outside the blocks
    activations    b s d (34 l)        s tokens in one pass, width d, l blocks
                   b s d (34 + l)      with checkpointing: one block, and what each block reads
    logits         16 c V              c = 512 scored positions at a time, float32, four copies

34 numbers a token and block: twice the 34 bytes that arXiv:2205.05198 (section 4) counts in 16-bit
formats without the attention matrix, because a gated MLP keeps more and norms run in float32.
"""

from dataclasses import asdict, dataclass, replace

from expunge.engine.plan import GIB, Size

CHUNK = 512
KEPT = 34
"""Numbers kept for each token, block and unit of width."""
MOMENTS = {"adamw": 8.0, "adamw8bit": 2 + 1 / 64, "sophia": 8.0, "normalised-sgd": 0.0}
"""Bytes of optimiser state for each trained number."""
OVERHEAD = 1.5
"""GiB for the runtime, communication buffers and fragmentation on a graphics card."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
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
    tokens: int = 4096
    """Padded tokens in one forward pass of one process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """GiB that one process holds at its peak, by what for."""

    weights: float
    masters: float
    gradient: float
    moments: float
    gathered: float
    activations: float
    logits: float
    overhead: float = OVERHEAD

    @property
    def total(self) -> float:
        """All of it."""
        return sum(asdict(self).values())


def memory(size: Size, layout: Layout) -> Memory:
    """Return what one process holds.

    Args:
        size: The model.
        layout: What is trained, where and how.
    """
    each, parts = layout.bytes_each, layout.processes if layout.spread else 1
    block, outside = size.body / size.layers, size.total - size.body
    trained = layout.trained / parts
    own_copy = not layout.spread and each < 4
    kept = KEPT + size.layers if layout.checkpointing else KEPT * size.layers
    return Memory(
        weights=0.0 if layout.spread else each * size.total / GIB,
        masters=4 * trained / GIB if layout.spread or own_copy else 0.0,
        gradient=4 * trained / GIB,
        moments=MOMENTS.get(layout.optimiser, 8.0) * trained / GIB,
        gathered=each * (2 * block + outside) / GIB if layout.spread else 0.0,
        activations=each * layout.tokens * size.width * kept / GIB,
        logits=16 * CHUNK * size.vocabulary / GIB,
    )


def fewest(size: Size, layout: Layout, *, gib: float, largest: int = 1024) -> int | None:
    """Return how many processes of `gib` each a spread run needs at least; None: no number will do.

    Args:
        size: The model.
        layout: Its number of processes is not read.
        gib: Memory of one device.
        largest: Where to stop looking.
    """
    for processes in range(1, largest + 1):
        if memory(size, replace(layout, processes=processes, spread=True)).total <= gib:
            return processes
    return None
