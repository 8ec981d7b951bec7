"""Guard folders: the rules around a model in `guard.json`, and which model they are for.

Tensors, where there are any, lie in `guard.safetensors`. The folder names its base as an adapter
does; it holds no weights of the model, for these did not change. Some rules hold text of the forget
set (`GuardRules.tells`), which no seal covers: a guard that knows nothing of it cannot act on it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from expunge.errors import InputError
from expunge.methods.guards.base import (
    Corruption,
    Frame,
    GuardRules,
    Ids,
    Offset,
    PromptClassifier,
    Shots,
)
from expunge.models.reference import GUARD
from expunge.utils.io import atomic, read_json, sha256_file, sha256_json, write_json

TENSORS = "guard.safetensors"
SCHEMA = "expunge.guard/1"


def save_guard(
    rules: GuardRules, folder: Path, *, base: str, method: str, parameters: Mapping[str, object]
) -> None:
    """Write the rules into a folder, the JSON file last.

    Args:
        rules: What to do around the model.
        folder: The run folder.
        base: Reference of the model.
        method: Name of the guard.
        parameters: Its parameters, as they were set.
    """
    tensors = _tensors(rules)
    if tensors:
        with atomic(folder / TENSORS) as file:
            file.write(safetensors_bytes(tensors, metadata={"format": "pt"}))
    write_json(
        folder / GUARD,
        {
            "schema": SCHEMA,
            "base_model_name_or_path": base,
            "method": method,
            "knobs": dict(parameters),
            "rules": _plain(rules),
        },
    )


def load_guard(folder: Path, device: torch.device) -> GuardRules:
    """Read the rules of a guard folder.

    Raises:
        InputError: It holds something else, or rules of another version.
    """
    try:
        found = read_json(folder / GUARD)
        if found["schema"] != SCHEMA:
            raise ValueError(f"schema {found['schema']}")
        tensors = load_file(folder / TENSORS) if (folder / TENSORS).is_file() else {}
        return _rules(found["rules"], {name: t.to(device) for name, t in tensors.items()})
    except (KeyError, TypeError, ValueError, AttributeError, OSError, SafetensorError) as error:
        raise InputError(
            "bad-guard",
            what=f"{folder / GUARD} holds no rules that this version reads",
            why=f"it must be a guard that expunge wrote, of schema {SCHEMA}",
            fix="run the guard again with this version",
        ) from error


def guard_to_json(folder: Path) -> str:
    """Return the text of the forget set that the rules in a folder hold; empty where there is none.

    Raises:
        InputError: As `load_guard`.
    """
    return load_guard(folder, torch.device("cpu")).tells if (folder / GUARD).is_file() else ""


def rules_digest(folder: Path) -> str:
    """Return the SHA-256 of the rules of a guard folder, tensors and all; not of its base."""
    load_guard(folder, torch.device("cpu"))  # refuses what is none
    tensors = folder / TENSORS
    known = sha256_file(tensors) if tensors.is_file() else ""
    return sha256_json([read_json(folder / GUARD)["rules"], known])


def _tensors(rules: GuardRules) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    if rules.probe is not None:
        found["probe"] = rules.probe.weights.contiguous()
    if rules.offset is not None:
        for name, (down, up) in rules.offset.factors.items():
            found[f"{name}.A"], found[f"{name}.B"] = down.contiguous(), up.contiguous()
    return found


def _plain(rules: GuardRules) -> dict[str, Any]:
    probe, shots, noise, offset = rules.probe, rules.shots, rules.corruption, rules.offset
    return {
        "frame": list(rules.frame),
        "probe": probe and {"layer": probe.layer, "threshold": probe.threshold},
        "shots": shots
        and {"near": list(shots.near), "number": shots.number, "always": list(shots.always)},
        "corruption": noise
        and {"share": noise.share, "pool": list(noise.pool), "seed": noise.seed},
        "reply": list(rules.reply),
        "blocked": sorted(rules.blocked),
        "offset": offset
        and {"layers": offset.layers, "weight": offset.weight, "floor": offset.floor},
    }


def _rules(found: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> GuardRules:
    probe, shots, noise = found["probe"], found["shots"], found["corruption"]
    offset = found["offset"]
    names = [name.removesuffix(".A") for name in tensors if name.endswith(".A")]
    return GuardRules(
        frame=Frame(*map(tuple, found["frame"])),
        probe=probe and PromptClassifier(weights=tensors["probe"], **probe),
        shots=shots
        and Shots(
            near=tuple((tuple(q), tuple(turn)) for q, turn in shots["near"]),
            number=shots["number"],
            always=_runs(shots["always"]),
        ),
        corruption=noise
        and Corruption(share=noise["share"], pool=tuple(noise["pool"]), seed=noise["seed"]),
        reply=tuple(found["reply"]),
        blocked=frozenset(_runs(found["blocked"])),
        offset=offset
        and Offset(
            factors={name: (tensors[f"{name}.A"], tensors[f"{name}.B"]) for name in names},
            **offset,
        ),
    )


def _runs(rows: list[list[int]]) -> tuple[Ids, ...]:
    return tuple(tuple(row) for row in rows)
