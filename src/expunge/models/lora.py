"""LoRA: W + (alpha / r) B A on chosen linear layers, saved in PEFT's format.

Our own layer rather than PEFT's because the training loop holds the adapter in float32 master
copies and applies it in the model's number format without casts on every call, and because
importing PEFT alone takes seconds. What is saved loads with `PeftModel.from_pretrained`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from expunge.errors import UsageError
from expunge.methods.base import Trains, last_block
from expunge.models.architecture import Linear, linear_layers
from expunge.models.cpu_kernels import AutogradContext, product
from expunge.models.integrity import require_adapter
from expunge.models.transformer import Network
from expunge.utils.file_names import ADAPTER
from expunge.utils.io import atomic, read_json, write_json

_RANK_TOLERANCE = 1e-6
"""Singular values smaller than this share of the largest are none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraShape:
    """Which layers get an adapter, and how large it is.

    `targets` are modules inside a block, for example `q_proj` (`terms.is_named`); empty means every
    linear layer of the blocks; experts that lie in one tensor are none. `first_layer` leaves the
    blocks below it frozen: no gradient is computed there.
    """

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ()
    first_layer: int = 0
    last_layer: int | None = None
    """Highest block with an adapter; None: the top."""

    @property
    def scale(self) -> float:
        """Factor on B A."""
        return self.alpha / self.rank

    def place(self, layers: int) -> Trains:
        """Return where it goes in a model of so many blocks: to linear layers, where there are."""
        last = last_block(self.last_layer, layers)
        return Trains(
            modules=self.targets, first_layer=self.first_layer, last_layer=last, gaps=True
        )


class _Context(AutogradContext, Protocol):
    """What autograd keeps for the way back."""

    scale: float


class _Corrected(torch.autograd.Function):
    """x W' + b + s (x A') B', without a second pass over what W' and B' both make.

    dx = g W + (s g B) A     dA = (s g B)' x     dB = s g' (x A')     dW = g' x     db = sum g

    W and b are frozen while an adapter trains. Their gradients are computed only where autograd
    needs them.
    """

    @staticmethod
    def forward(
        ctx: _Context,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        lora_a: Tensor,
        lora_b: Tensor,
        scale: float,
    ) -> Tensor:
        rows = inputs.flatten(0, -2)  # [n, fan_in]
        low = rows @ lora_a.T  # [n, r], kept for dB
        outputs = product(rows, weight, bias).addmm_(low, lora_b.T, alpha=scale)
        ctx.save_for_backward(inputs, weight, lora_a, lora_b, low)
        ctx.scale = scale
        return outputs.view(*inputs.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: _Context, *slopes: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor, Tensor, None]:
        inputs, weight, lora_a, lora_b, low = ctx.saved_tensors
        slope = slopes[0].flatten(0, -2)  # g, [n, fan_out]
        down = (slope @ lora_b).mul_(ctx.scale)  # s g B, [n, r]
        into = None
        if ctx.needs_input_grad[0]:
            into = product(slope, weight.T).addmm_(down, lora_a).view_as(inputs)
        rows = inputs.flatten(0, -2)
        slope_a = down.T @ rows
        slope_b = (slope.T @ low).mul_(ctx.scale)
        slope_w = slope.T @ rows if ctx.needs_input_grad[1] else None
        slope_bias = slope.sum(0) if ctx.needs_input_grad[2] else None
        return into, slope_w, slope_bias, slope_a, slope_b, None


class LoraLinear(nn.Module):
    """A frozen linear layer with a trainable low-rank correction.

    Args:
        base: The layer to correct: `nn.Linear`, or GPT-2's transposed `Conv1D`.
        shape: Rank and scale.
        generator: Draws A; B starts at zero, so the corrected layer equals `base` at first.
    """

    def __init__(self, base: Linear, shape: LoraShape, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scale = shape.scale
        self.rewritten = False
        """Whether the base no longer is the original's layer."""
        weight = base.weight
        self.transposed = isinstance(base, Conv1D)
        fan_out, fan_in = reversed(weight.shape) if self.transposed else weight.shape
        bound = 1 / math.sqrt(fan_in)
        initial = torch.empty(shape.rank, fan_in).uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(initial.to(weight.device, weight.dtype))
        self.lora_B = nn.Parameter(weight.new_zeros(fan_out, shape.rank))

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer, [..., fan_in] -> [..., fan_out]."""
        base = self.base
        weight = base.weight.T if self.transposed else base.weight
        return _Corrected.apply(inputs, weight, base.bias, self.lora_A, self.lora_B, self.scale)  # type: ignore[return-value]

    @torch.no_grad()
    def take_over(self, importance: Tensor) -> None:
        """Move the most important rank-r part of the base weight into the adapter (FILA).

            W ~ W V V'    with V the first r right singular vectors of D W,  D = diag(importance)
            s B A = W V V',   B = W V (s S)^-1/2,   A = (S / s)^1/2 V',   W <- W - s B A

        V V' is the projection that keeps most of W's rows, weighted by their importance. The layer
        computes what it did, up to rounding.

        Args:
            importance: Weight of each output, [fan_out], not negative.
        """
        weight = by_output(self.base, self.base.weight)  # [fan_out, fan_in]
        weighed = importance.to(weight).unsqueeze(1) * weight
        _, values, rows = torch.linalg.svd(weighed, full_matrices=False)
        # Directions without any weight would divide by zero.
        rank = min(self.lora_A.shape[0], int((values > _RANK_TOLERANCE * values[0]).sum()))
        roots, rows = (values[:rank] / self.scale).sqrt(), rows[:rank]
        self.lora_A[:rank] = roots.unsqueeze(1) * rows
        self.lora_B[:, :rank] = weight @ rows.T / (self.scale * roots)
        weight.sub_(self.scale * (self.lora_B @ self.lora_A))
        self.rewritten = True

    @torch.no_grad()
    def merged(self, lora_a: Tensor, lora_b: Tensor) -> Tensor:
        """Return base weight + scale B A, in the base's format.

        The sum is computed in float32 and rounded once.

        Args:
            lora_a: A in float32, [r, fan_in].
            lora_b: B in float32, [fan_out, r].
        """
        update = self.scale * (lora_b.float() @ lora_a.float())
        weight = self.base.weight
        return (weight.float() + (update.T if self.transposed else update)).to(weight.dtype)


def adaptable(network: Network, shape: LoraShape) -> dict[str, Linear]:
    """Return the linear layers that an adapter of this shape corrects, by full name.

    Raises:
        UsageError: A wanted name is that of no linear layer in these blocks.
    """
    found = linear_layers(network.layers, shape.place(len(network.layers)))
    return {f"{_prefix(network, index)}.{name}": layer for (index, name), layer in found.items()}


def by_output(layer: Linear, values: Tensor) -> Tensor:
    """Return values of a layer's weights, one row per output: a view."""
    return values.T if isinstance(layer, Conv1D) else values


def attach(
    network: Network,
    shape: LoraShape,
    *,
    seed: int,
    importance: Mapping[str, Tensor] | None = None,
) -> list[str]:
    """Freeze the model and put an adapter on the chosen linear layers of its blocks.

    Args:
        network: The model.
        shape: Which layers, and how large an adapter.
        seed: Of the initial A.
        importance: Weight of each output of each layer: start from the most important part of the
            layer, which is taken out of the base weight, instead of from nothing.

    Returns:
        Full names of the adapted modules, in model order.

    Raises:
        UsageError: As `adaptable`.
    """
    network.model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    layers = adaptable(network, shape)
    for name, module in layers.items():
        layer = LoraLinear(module, shape, generator)
        if importance is not None:
            layer.take_over(importance[name])
        parent, _, leaf = name.rpartition(".")
        setattr(network.model.get_submodule(parent), leaf, layer)
    return list(layers)


@torch.no_grad()
def merge(model: PreTrainedModel, masters: dict[str, Tensor]) -> None:
    """Replace every adapted layer by a plain one that holds the merged weight, in place.

    Args:
        model: A model after `attach`.
        masters: Float32 values of the adapter's parameters by full name; names not given are taken
            from the model.
    """
    for name, layer in list(_adapted_layers(model)):
        weight = layer.merged(
            masters.get(f"{name}.lora_A", layer.lora_A), masters.get(f"{name}.lora_B", layer.lora_B)
        )
        layer.base.weight.copy_(weight)
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, layer.base)
    model.requires_grad_(True)


def detach(model: PreTrainedModel) -> None:
    """Take every adapter off again; the weights are those before `attach`."""
    for name, layer in list(_adapted_layers(model)):
        assert not layer.rewritten, "the base was rewritten: only merging gives the model back"
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, layer.base)


@torch.no_grad()
def updates(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return what the adapter adds to each weight, float32, by the name of the bare weight."""
    found: dict[str, Tensor] = {}
    for name, layer in _adapted_layers(model):
        update = layer.scale * (layer.lora_B.float() @ layer.lora_A.float())
        found[f"{name}.weight"] = update.T if layer.transposed else update
    return found


@torch.no_grad()
def factors(model: PreTrainedModel) -> dict[str, tuple[Tensor, Tensor]]:
    """Return A [r, in] and scale * B [out, r] of every adapted module, float32, by its name."""
    return {
        name: (layer.lora_A.float().clone(), layer.scale * layer.lora_B.float())
        for name, layer in _adapted_layers(model)
    }


def save_adapter(
    model: PreTrainedModel, shape: LoraShape, masters: dict[str, Tensor], *, base: str, folder: Path
) -> None:
    """Write the adapter in PEFT's format: `adapter_model.safetensors` and `adapter_config.json`.

    Raises:
        UsageError: The adapter belongs to rewritten weights, not to those of `base`.
    """
    if any(layer.rewritten for _, layer in _adapted_layers(model)):
        raise rewritten_base()
    tensors: dict[str, Tensor] = {}
    leaves: set[str] = set()
    for name, layer in _adapted_layers(model):
        leaves.add(name.rpartition(".")[2])
        for part, value in (("lora_A", layer.lora_A), ("lora_B", layer.lora_B)):
            tensor = masters.get(f"{name}.{part}", value)
            tensors[f"base_model.model.{name}.{part}.weight"] = tensor.detach().contiguous()
    with atomic(folder / "adapter_model.safetensors") as file:
        file.write(safetensors_bytes(tensors, metadata={"format": "pt"}))
    config: dict[str, object] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": shape.rank,
        "lora_alpha": shape.alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(leaves),
        "bias": "none",
        "fan_in_fan_out": any(layer.transposed for _, layer in _adapted_layers(model)),
        "inference_mode": True,
    }
    if shape.first_layer or shape.last_layer is not None:
        config["layers_to_transform"] = _adapted_indices(model)
    write_json(folder / ADAPTER, config)


def rewritten_base() -> UsageError:
    """Return the error that an adapter over a rewritten base cannot be saved."""
    return UsageError(
        "rewritten-base",
        what="an adapter that starts as FILA cannot be kept unmerged",
        why="a part of the base weights moved into it: over the original it would count twice",
        fix='leave --adapter out, or set train.init = "default"',
    )


PLAIN_KEYS = {
    "use_dora": False,
    "use_rslora": False,
    "bias": "none",
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "lora_bias": False,
    "trainable_token_indices": None,
    "layer_replication": None,
}
"""Options of PEFT's LoRA that must have these values for `merge_saved` to be exact."""
_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Initialisations that leave the base as it is; others move a part of it into the adapter."""


def is_plain(folder: Path) -> bool:
    """Tell whether a saved adapter is LoRA of linear layers, without options that change it."""
    config = read_json(folder / ADAPTER)
    usual = all(config.get(key) in (value, None) for key, value in PLAIN_KEYS.items())
    usual = usual and config.get("init_lora_weights") in _STARTS
    if config.get("peft_type") != "LORA" or not usual:
        return False
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        names = list(file.keys())
    return all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in names)


@torch.no_grad()
def merge_saved(model: PreTrainedModel, folder: Path) -> None:
    """Add a saved plain LoRA adapter to the weights of `model`, in float32, in place.

    Raises:
        KeyError, ValueError, AttributeError: The adapter is not the one that its configuration
            describes, or names layers or shapes that the model does not have; nothing was added.
    """
    config = read_json(folder / ADAPTER)
    tensors = load_file(folder / "adapter_model.safetensors")
    require_adapter(config, tensors, model)
    scale = config["lora_alpha"] / config["r"]
    suffix = ".lora_A.weight"
    for key in [name for name in tensors if name.endswith(suffix)]:
        stem = key.removesuffix(suffix)
        layer = model.get_submodule(stem.removeprefix("base_model.model."))
        weight = layer.get_parameter("weight")
        update = scale * (tensors[f"{stem}.lora_B.weight"].float() @ tensors[key].float())
        update = (update.T if isinstance(layer, Conv1D) else update).to(weight.device)
        weight.copy_((weight.float() + update).to(weight.dtype))


def _adapted_layers(model: PreTrainedModel) -> Iterator[tuple[str, LoraLinear]]:
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield name, module


def _adapted_indices(model: PreTrainedModel) -> list[int]:
    parts = (name.split(".") for name, _ in _adapted_layers(model))
    return sorted({next(int(part) for part in names if part.isdigit()) for names in parts})


def _prefix(network: Network, index: int) -> str:
    block = network.layers[index]
    return next(name for name, module in network.model.named_modules() if module is block)
