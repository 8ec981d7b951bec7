"""AdamW whose moments take one byte a weight (arXiv:2110.02861).

    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2,   both corrected for their start at zero
    theta <- theta - lr decay theta - lr m / (sqrt(v) + 1e-8)
    m and v are kept as  scale * level[code],   scale = largest |x| of a block of 256 in a row

The 256 levels lie in [0, 1] (for m also below zero) and are dense near zero over seven decades, so
small moments beside large ones keep their size: 2 bytes a weight and 4 in 128 more, instead of 8.

Differs from published code: a block never crosses a row, so that it does not depend on how rows are
spread over processes; tensors of fewer than 4096 numbers and of one dimension keep float32 moments,
as there. Written in plain torch because `torchao`'s state has a class of its own, and a
checkpoint here holds plain tensors only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

_BLOCK = 256
_SMALL = 4096
_DECADES = 7
_EPS = 1e-8


def levels(*, signed: bool) -> Tensor:
    """Return the 256 levels in rising order: the dynamic map of arXiv:2110.02861."""
    found: list[float] = [0.0, 1.0]
    for decade in range(_DECADES):  # each one has twice the levels of the decade below it
        edges = torch.linspace(0.1, 1, 2 ** (decade if signed else decade + 1) + 1)
        middles = (10.0 ** (decade - _DECADES + 1) * (edges[:-1] + edges[1:]) / 2).tolist()
        found += middles
        found += [-middle for middle in middles] if signed else []
    return torch.tensor(sorted(found))


def packed(values: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Round values to levels times the scale of their block.

    Args:
        values: [..., m] float32.
        table: Levels in rising order, [256].

    Returns:
        Codes, [..., m] uint8, and scales, [..., ceil(m / 256)] float32.
    """
    blocks = _blocks(values)  # [..., blocks, 256]
    scale = blocks.abs().amax(-1)  # [..., blocks]
    middles = (table[1:] + table[:-1]) / 2  # between them lie the values nearest to a level
    codes = torch.bucketize(blocks / scale.clamp(min=1e-38).unsqueeze(-1), middles, out_int32=True)
    return codes.flatten(-2)[..., : values.shape[-1]].to(torch.uint8).contiguous(), scale


def unpacked(codes: Tensor, scale: Tensor, table: Tensor) -> Tensor:
    """Return the values that codes and scales stand for, [..., m] float32."""
    blocks = _blocks(table[codes.int()])
    return (blocks * scale.unsqueeze(-1)).flatten(-2)[..., : codes.shape[-1]]


class AdamW8(torch.optim.Optimizer):
    """AdamW over weights that may be spread by rows; its state is plain tensors."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        lr: float,
        weight_decay: float,
        betas: tuple[float, float],
    ) -> None:
        super().__init__(list(weights.values()), {"lr": lr, "weight_decay": weight_decay})
        self._betas = betas
        device = next(iter(weights.values())).device
        self._tables = {
            name: levels(signed=name == "mean").to(device) for name in ("mean", "square")
        }

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step; weights without gradient stay."""
        group = self.param_groups[0]
        for weight in group["params"]:
            if weight.grad is not None:
                self._move(weight, weight.grad, group["lr"], group["weight_decay"])

    def _move(self, weight: Tensor, slope: Tensor, lr: float, decay: float) -> None:
        kept, here, gradient = self.state[weight], _local(weight), _local(slope)
        if not kept:
            kept["step"] = torch.tensor(0.0)
        kept["step"] += 1
        fresh = {"mean": gradient, "square": gradient.square()}
        moments: dict[str, Tensor] = {}
        for (name, value), beta in zip(fresh.items(), self._betas, strict=True):
            old = self._read(kept, name, here)
            moment = old.lerp_(value, 1 - beta)
            self._keep(kept, name, moment, weight)
            moments[name] = moment / (1 - beta ** int(kept["step"]))  # corrected for the zero start
        move = moments["mean"] / (moments["square"].sqrt() + _EPS)
        here.mul_(1 - lr * decay).sub_(move, alpha=lr)

    def _read(self, kept: dict[str, Tensor], name: str, like: Tensor) -> Tensor:
        if f"{name}_codes" in kept:
            codes, scale = _local(kept[f"{name}_codes"]), _local(kept[f"{name}_scale"])
            return unpacked(codes, scale, self._tables[name])
        return _local(kept[name]).clone() if name in kept else torch.zeros_like(like)

    def _keep(self, kept: dict[str, Tensor], name: str, moment: Tensor, weight: Tensor) -> None:
        if weight.ndim < 2 or weight.numel() < _SMALL:
            kept[name] = _spread_as(weight, moment)
            return
        codes, scale = packed(moment, self._tables[name])
        kept[f"{name}_codes"] = _spread_as(weight, codes)
        kept[f"{name}_scale"] = _spread_as(weight, scale)


@dataclass(frozen=True, kw_only=True, slots=True)
class AdamW8bit:
    """AdamW with moments of one byte."""

    advice: ClassVar[str] = "all weights where memory is short: a quarter of AdamW's moments"
    curved: ClassVar[bool] = False

    beta1: float = 0.9
    beta2: float = 0.999

    def make(
        self, weights: Mapping[str, Tensor], lr: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        """Return the optimiser of these weights."""
        return AdamW8(weights, lr, weight_decay, (self.beta1, self.beta2))


def _blocks(values: Tensor) -> Tensor:
    missing = -values.shape[-1] % _BLOCK  # zeros that fill the last block of a row
    return torch.nn.functional.pad(values, (0, missing)).unflatten(-1, (-1, _BLOCK))


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _spread_as(weight: Tensor, own: Tensor) -> Tensor:
    """Return a tensor whose rows are spread over the processes as those of a weight are."""
    if not isinstance(weight, DTensor):
        return own
    shape = torch.Size((weight.shape[0], *own.shape[1:]))
    return DTensor.from_local(
        own,
        weight.device_mesh,
        weight.placements,
        run_check=False,
        shape=shape,
        stride=torch.empty(shape, device="meta").stride(),
    )
