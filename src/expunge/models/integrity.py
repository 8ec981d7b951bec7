"""Whole models only: no tensor is missing, left over, of another shape, or not a number.

What is missing would be filled with random numbers, and what is left over would be ignored: two
audits of one folder would differ, or judge less than lies there.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from expunge.errors import InputError, named_in_part

_MOST_NAMED = 2
_BUFFERS = re.compile(r"(^|\.)(attn|attention|self_attn)\.(masked_bias|bias)$|\.inv_freq$")
"""Masks and rotation frequencies that older libraries saved, and that every library computes."""
_A, _B = ".lora_A.weight", ".lora_B.weight"
_PREFIX = "base_model.model."


def require_whole(reference: str, info: Mapping[str, Any]) -> None:
    """Refuse weights that are not exactly those of the model that `config.json` describes.

    Tied tensors that the files hold once are no missing ones: transformers leaves them out of what
    it reports.

    Args:
        reference: The model, for messages.
        info: What `from_pretrained` reports with `output_loading_info`.

    Raises:
        InputError: `incomplete-weights`, `left-over-weights` or `misshapen-weights`.
    """
    misshapen = sorted(str(row[0]) for row in info["mismatched_keys"])
    missing = sorted(set(info["missing_keys"]) - set(misshapen))
    left = sorted(name for name in info["unexpected_keys"] if not _BUFFERS.search(name))
    found = {
        "misshapen-weights": (misshapen, "weights of other shapes than config.json describes"),
        "incomplete-weights": (missing, "weights are missing; random numbers would replace them"),
        "left-over-weights": (left, "weights that have no place in the model of config.json"),
    }
    for code, (names, what) in found.items():
        if names:
            raise InputError(
                code,
                what=f"{reference}: {what}: {named_in_part(names, most=_MOST_NAMED)}",
                why="what would be computed is not the model that lies there",
                fix="restore the folder from its source; compare num_hidden_layers in config.json"
                " with the weights",
            )


def require_finite(reference: str, model: PreTrainedModel) -> None:
    """Refuse weights that hold NaN or infinities.

    Raises:
        InputError: `not-a-number`.
    """
    broken = [
        name
        for name, weight in model.named_parameters()
        if weight.is_floating_point() and not bool(torch.isfinite(weight).all())
    ]
    if broken:
        names = named_in_part(sorted(broken), most=_MOST_NAMED)
        raise not_a_number(f"weights of {reference} are not numbers: {names}")


def not_a_number(what: str) -> InputError:
    """Return the error of a model whose weights or scores are not numbers."""
    return InputError(
        "not-a-number",
        what=what,
        why="the weights hold NaN or infinities, or overflow in this number format",
        fix="check the model's files; with bf16, try --set precision=fp32",
    )


def require_adapter(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], model: PreTrainedModel
) -> None:
    """Refuse a plain LoRA adapter that is not the one that its configuration describes.

    Args:
        config: `adapter_config.json`.
        tensors: Its tensors by name.
        model: The base.

    Raises:
        ValueError: It is empty, no rank is named, a half of a pair is missing, a rank is not that
            of the configuration, a layer is not there or of another shape, or a value is not a
            number.
    """
    rank = config.get("r")
    if rank is None:
        raise ValueError("adapter_config.json names no rank")
    stems = {name.removesuffix(_A).removesuffix(_B) for name in tensors}
    if not stems:
        raise ValueError("it holds no tensor")
    for stem in sorted(stems):
        halves = [tensors.get(f"{stem}{half}") for half in (_A, _B)]
        down, up = halves
        if down is None or up is None:
            raise ValueError(f"{stem} has one half of its pair only")
        if down.shape[0] != rank or up.shape[1] != rank:
            ranks = f"{down.shape[0]} and {up.shape[1]}"
            raise ValueError(f"{stem} has rank {ranks}, adapter_config.json says {rank}")
        if not all(bool(torch.isfinite(half).all()) for half in (down, up)):
            raise ValueError(f"{stem} holds values that are not numbers")
        _require_fits(stem, model, inputs=down.shape[1], outputs=up.shape[0])
    _require_every_layer(config, stems, model)


def _require_fits(stem: str, model: PreTrainedModel, *, inputs: int, outputs: int) -> None:
    try:
        layer = model.get_submodule(stem.removeprefix(_PREFIX))
    except AttributeError:
        raise ValueError(f"the base has no layer {stem.removeprefix(_PREFIX)}") from None
    shape = tuple(layer.get_parameter("weight").shape)
    wanted = (inputs, outputs) if isinstance(layer, Conv1D) else (outputs, inputs)
    if shape != wanted:
        raise ValueError(f"{stem} is for weights of shape {wanted}, the base has {shape}")


def _require_every_layer(
    config: Mapping[str, Any], stems: Collection[str], model: PreTrainedModel
) -> None:
    """Refuse an adapter that lacks a block that its configuration names, where that can be told."""
    targets, chosen = config.get("target_modules"), config.get("layers_to_transform")
    if not isinstance(targets, list):
        return  # a regular expression
    present = set(_places(stem.removeprefix(_PREFIX) for stem in stems))
    named = [name for name, _ in model.named_modules() if name.rpartition(".")[2] in targets]
    for leaf, block in sorted(set(_places(named)) - present):
        if chosen is None or block in (chosen if isinstance(chosen, list) else [chosen]):
            raise ValueError(f"{leaf} of block {block} is named in adapter_config.json and missing")


def _places(names: Iterable[str]) -> list[tuple[str, int]]:
    """Return the last name and the number of the block of modules that lie in blocks."""
    found: list[tuple[str, int]] = []
    for name in names:
        parts = name.split(".")
        block = next((int(part) for part in parts if part.isdigit()), None)
        if block is not None:
            found.append((parts[-1], block))
    return found


def require_same_names(folder: Path, expected: Collection[str], found: Collection[str]) -> None:
    """Refuse an adapter of another kind whose tensors are not those that it needs.

    Args:
        folder: The adapter.
        expected: Names of the tensors that it needs.
        found: Names of those that it has.

    Raises:
        ValueError: They are not the same.
    """
    if not found:
        raise ValueError(f"{folder.name} holds no tensor")
    missing = sorted(set(expected) - set(found))
    left = sorted(set(found) - set(expected))
    for names, what in ((missing, "misses"), (left, "has left over")):
        if names:
            raise ValueError(f"{folder.name} {what} {named_in_part(names, most=_MOST_NAMED)}")
