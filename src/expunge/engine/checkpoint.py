"""Checkpoints: one safetensors file that is whole or absent, enough to go on bit for bit."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from expunge.engine.weights import Weights
from expunge.files import atomic


def save(
    path: Path,
    weights: Weights,
    optimiser: torch.optim.Optimizer,
    memory: Mapping[str, Tensor],
    state: object,
) -> None:
    """Write masters, optimiser moments, memory and `state` (JSON values) to `path`, atomically."""
    tensors: dict[str, Tensor] = {}
    for name, master in weights.masters.items():
        tensors[f"weight/{name}"] = master.detach()
        for key, value in optimiser.state[master].items():
            tensors[f"moment:{key}/{name}"] = value
    tensors |= {f"memory/{name}": value.contiguous() for name, value in memory.items()}
    with atomic(path) as file:
        file.write(safetensors_bytes(tensors, metadata={"state": json.dumps(state)}))


def load(
    path: Path, weights: Weights, optimiser: torch.optim.Optimizer, memory: dict[str, Tensor]
) -> dict[str, Any]:
    """Set masters, model, moments and memory to those of `path`; return what `save` was told."""
    with safe_open(str(path), framework="pt") as file:
        state: dict[str, Any] = json.loads(file.metadata()["state"])
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no iterator
    saved = _part(found, "weight")
    weights.restore(saved)
    kinds = {name.partition("/")[0] for name in found}
    for kind in sorted(kinds - {"weight", "memory"}):
        key = kind.removeprefix("moment:")
        for name, value in _part(found, kind).items():
            master = weights.masters[name]
            device = "cpu" if key == "step" and not master.is_cuda else master.device
            optimiser.state[master][key] = value.to(device)
    device = next(iter(weights.masters.values())).device
    memory.update({name: value.to(device) for name, value in _part(found, "memory").items()})
    return state


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read only the masters of a checkpoint."""
    with safe_open(str(path), framework="pt") as file:
        names = [name for name in file.keys() if name.startswith("weight/")]  # noqa: SIM118
        return {name.removeprefix("weight/"): file.get_tensor(name) for name in names}


def _part(tensors: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    prefix = f"{kind}/"
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
