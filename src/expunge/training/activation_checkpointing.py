"""Activation checkpointing: what a block computed is computed again on the way back, not kept.

Memory for activations falls from that of all blocks to that of one, and what each of them reads;
a step takes a third more arithmetic. The gradient is the same, bit for bit on a CPU.

Selective recomputation (arXiv:2205.05198): what is cheap to make again is not kept.

    MLP     y = W h,  h = a(g) * u      kept: g and u, [tokens, f]; a(g) and h are made again
    norm    y = w * x / rms(x)          kept: x, [tokens, d], and rms(x); the float32 copy of x and
                                        x / rms(x) are made again

Of what a Llama's block keeps for the way back this is about half, for element-wise work that is a
few hundredths of its products. No product is computed twice. Outputs have the same bits, and
gradients are the same up to the rounding of a norm's.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from expunge.models.cpu_kernels import AutogradContext
from expunge.models.transformer import Network


@contextmanager
def recomputed(network: Network) -> Generator[None]:
    """Let every block of the model compute twice instead of keeping what it computed.

    The class of a block changes rather than its `forward`, because others put theirs in its place
    for a while (`Network.observe`), and FSDP2 derives from the class.
    """
    kinds = [type(block) for block in network.layers]
    for block, kind in zip(network.layers, kinds, strict=True):
        block.__class__ = _twice(kind)
    try:
        yield
    finally:
        for block, kind in zip(network.layers, kinds, strict=True):
            block.__class__ = kind


@cache
def _twice(kind: type[nn.Module]) -> type[nn.Module]:
    def forward(self: nn.Module, *inputs: object, **options: object) -> object:
        if not torch.is_grad_enabled():
            return kind.forward(self, *inputs, **options)
        run = partial(kind.forward, self, **options)
        return checkpoint(run, *inputs, use_reentrant=False)

    return type(f"Recomputed{kind.__name__}", (kind,), {"forward": forward})


@contextmanager
def selectively_recomputed(network: Network) -> Generator[None]:
    """Let gated MLPs and RMS norms of the blocks keep only what they are made from.

    Modules become ones of another class for a while; what they hold and compute stays.
    """
    changed = [(m, type(m)) for m in network.layers.modules() if is_gated(m) or is_rms_norm(m)]
    for module, kind in changed:
        module.__class__ = _gated(kind) if is_gated(module) else _normed(kind)
    try:
        yield
    finally:
        for module, kind in changed:
            module.__class__ = kind


def is_gated(module: nn.Module) -> bool:
    """Tell whether this is an MLP W (a(g) * u), the one of Llama.

    transformers writes it anew for each architecture, a few of which scale or cut between its
    steps: it is the same where it was compiled to the same code.
    """
    return _code(type(module)) == _code(LlamaMLP)


def is_rms_norm(module: nn.Module) -> bool:
    """Tell whether this divides states by their root mean square as Llama does."""
    return _code(type(module)) == _code(LlamaRMSNorm)


def _code(kind: type[nn.Module]) -> tuple[object, ...]:
    code = kind.forward.__code__
    return code.co_code, code.co_names, code.co_consts


@cache
def _gated(kind: type[nn.Module]) -> type[nn.Module]:
    def forward(self: Any, states: Tensor) -> Tensor:  # noqa: ANN401 - as `is_gated` says
        gate, up = self.gate_proj(states), self.up_proj(states)
        if not (torch.is_grad_enabled() and gate.requires_grad and up.requires_grad):
            return self.down_proj(self.act_fn(gate) * up)
        # Not called as a module: its hooks would run again on the way back.
        hidden = _Hidden(self.act_fn.forward, gate.detach(), up.detach())
        value = cast(Tensor, _Gated.apply(hidden, gate, up))
        # The down projection would save h for its weight gradient: it saves how to make h instead.
        with saved_tensors_hooks(partial(_instead, hidden, value.data_ptr()), _made):
            return self.down_proj(value)

    return type(f"Selective{kind.__name__}", (kind,), {"forward": forward})


@cache
def _normed(kind: type[nn.Module]) -> type[nn.Module]:
    def forward(self: Any, states: Tensor) -> Tensor:  # noqa: ANN401 - as `is_rms_norm` says
        saves = self.weight.requires_grad or states.dtype is not torch.float32
        if not (torch.is_grad_enabled() and states.requires_grad and saves):
            return kind.forward(self, states)
        return cast(Tensor, _Normed.apply(states, self.weight, self.variance_epsilon))

    return type(f"Selective{kind.__name__}", (kind,), {"forward": forward})


class _Hidden:
    """h = a(g) * u of one forward pass, to be made again on the way back."""

    def __init__(self, activation: Callable[[Tensor], Tensor], gate: Tensor, up: Tensor) -> None:
        self._activation = activation
        self._read: tuple[Tensor, Tensor] | None = (gate, up)
        self._active: tuple[Tensor, Tensor] | None = None
        self.size = gate.numel()

    def first(self) -> Tensor:
        """Return h, and remember nothing."""
        gate, up = self._kept
        return self._activation(gate) * up

    def value(self) -> Tensor:
        """Return h."""
        _, up = self._kept
        return self._activated()[1].detach() * up

    def slopes(self, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Return those of g and u, and let go of both."""
        (_, up), (gate, active) = self._kept, self._activated()
        (own,) = torch.autograd.grad(active, gate, slope * up)
        found = own, slope * active.detach()
        self._read = self._active = None
        return found

    @property
    def _kept(self) -> tuple[Tensor, Tensor]:
        assert self._read is not None, "a graph is gone back through once"
        return self._read

    def _activated(self) -> tuple[Tensor, Tensor]:
        """Return g and a(g), which the down projection and what is below it both want."""
        if self._active is None:
            gate = self._kept[0].detach().requires_grad_()
            with torch.enable_grad():
                self._active = gate, self._activation(gate)
        return self._active


def _instead(hidden: _Hidden, address: int, kept: Tensor) -> Tensor | tuple[_Hidden, torch.Size]:
    """Return what is kept in place of a tensor: itself, unless it is h with other dimensions.

    Told by its address: autograd keeps this function, and would keep h with it.
    """
    same = kept.data_ptr() == address and kept.numel() == hidden.size and kept.is_contiguous()
    return (hidden, kept.shape) if same else kept


def _made(kept: Tensor | tuple[_Hidden, torch.Size]) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    hidden, shape = kept
    return hidden.value().view(shape)


class _GatedContext(Protocol):
    hidden: _Hidden


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _GatedContext, hidden: _Hidden, gate: Tensor, up: Tensor) -> Tensor:
        ctx.hidden = hidden
        return hidden.first()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: _GatedContext, *slopes: Tensor
    ) -> tuple[None, Tensor, Tensor]:
        return None, *ctx.hidden.slopes(slopes[0])


class _Normed(torch.autograd.Function):
    """n = x r, y = w n, r = 1 / rms(x); dn = w g, dx = r (dn - n mean(dn n)), dw = sum g n.

    n in float32, y in the format of x.
    """

    @staticmethod
    def forward(ctx: AutogradContext, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        wide = states.float()
        rate = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
        ctx.save_for_backward(states, weight, rate)
        return weight * (wide * rate).to(states.dtype)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: AutogradContext, *slopes: Tensor
    ) -> tuple[Tensor, Tensor | None, None]:
        states, weight, rate = ctx.saved_tensors
        (slope,) = slopes
        normed = states.float() * rate  # n, [..., d] float32
        own = None
        if ctx.needs_input_grad[1]:
            own = (slope * normed.to(states.dtype)).flatten(0, -2).sum(0)  # dw, [d]
        moved = (slope * weight).float()  # dn
        along = (moved * normed).mean(-1, keepdim=True)
        change = moved.sub_(normed.mul_(along)).mul_(rate)
        return change.to(states.dtype), own, None
