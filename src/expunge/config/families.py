"""Families of models: where a request for one of them begins."""

from dataclasses import dataclass

SPLIT = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Linear modules of a block where each projection has a matrix of its own."""
FUSED = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
"""The same where projections share a matrix."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """Models that are named and trained alike.

    Example:
        >>> FAMILIES["phi"].targets[0]
        'qkv_proj'
    """

    model: str
    """Hub id of a member that fits one card."""
    targets: tuple[str, ...]
    """Modules of a block that get LoRA."""
    note: str = ""
    """What to know before the first run."""


_ASKS = "The Hub asks you to accept its licence first: `hf auth login`."

FAMILIES = {
    "llama": Family(model="meta-llama/Llama-3.1-8B-Instruct", targets=SPLIT, note=_ASKS),
    "qwen": Family(
        model="Qwen/Qwen3-8B",
        targets=SPLIT,
        note="Its template adds an empty thought to answers; `plain` leaves all marks away.",
    ),
    "gemma": Family(model="google/gemma-2-9b-it", targets=SPLIT, note=_ASKS),
    "mistral": Family(model="mistralai/Mistral-7B-Instruct-v0.3", targets=SPLIT, note=_ASKS),
    "phi": Family(model="microsoft/phi-4", targets=FUSED),
}
"""By the name that `expunge init --family` takes."""
