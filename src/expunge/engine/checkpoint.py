"""Checkpoints: one safetensors file that is whole or absent, enough to go on bit for bit."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from expunge.engine.weights import Weights
from expunge.files import atomic


def save(path: Path, weights: Weights, optimiser: torch.optim.AdamW, state: object) -> None:
    """Write masters, optimiser moments and `state` (JSON values) to `path`, atomically."""
    tensors: dict[str, Tensor] = {}
    for name, master in weights.masters.items():
        tensors[f"weight/{name}"] = master.detach()
        for key, value in optimiser.state[master].items():
            tensors[f"{key}/{name}"] = value
    with atomic(path) as file:
        file.write(safetensors_bytes(tensors, metadata={"state": json.dumps(state)}))


def load(path: Path, weights: Weights, optimiser: torch.optim.AdamW) -> dict[str, Any]:
    """Set masters, model and moments to those of `path` and return the state given to `save`."""
    with safe_open(str(path), framework="pt") as file:
        state: dict[str, Any] = json.loads(file.metadata()["state"])
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no iterator
    saved = _part(found, "weight")
    weights.restore(saved)
    for key in ("step", "exp_avg", "exp_avg_sq"):
        for name, value in _part(found, key).items():
            master = weights.masters[name]
            device = "cpu" if key == "step" and not master.is_cuda else master.device
            optimiser.state[master][key] = value.to(device)
    return state


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read only the masters of a checkpoint."""
    with safe_open(str(path), framework="pt") as file:
        names = [name for name in file.keys() if name.startswith("weight/")]  # noqa: SIM118
        return {name.removeprefix("weight/"): file.get_tensor(name) for name in names}


def _part(tensors: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    prefix = f"{kind}/"
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
