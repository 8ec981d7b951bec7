"""Selective recomputation (arXiv:2205.05198): what is cheap to make again is not kept.

    MLP     y = W h,  h = a(g) * u      kept: g and u, [tokens, f]; a(g) and h are made again
    norm    y = w * x / rms(x)          kept: x, [tokens, d]; its float32 copy and x / rms(x) are
                                        made again

Of what a Llama's block keeps for the way back this is about half, for element-wise work that is a
few hundredths of its products. No product is computed twice. Operations are those of the module
itself, in their order: the gradient is the same, but for the order in which float32 states add up
what reaches them through a norm and beside it.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks
from transformers.models.llama.modeling_llama import LlamaMLP

from expunge.model.context import Context
from expunge.model.network import Network

Make = Callable[..., Tensor]


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
    own, known = type(module).forward.__code__, LlamaMLP.forward.__code__
    return (own.co_code, own.co_names) == (known.co_code, known.co_names)


def is_rms_norm(module: nn.Module) -> bool:
    """Tell whether this divides states by their root mean square and multiplies by a weight."""
    names = [name for name, _ in module.named_parameters()]
    return type(module).__name__.endswith("RMSNorm") and names == ["weight"]


@cache
def _gated(kind: type[nn.Module]) -> type[nn.Module]:
    def forward(self: Any, states: Tensor) -> Tensor:  # noqa: ANN401 - as `is_gated` says
        gate, up = self.gate_proj(states), self.up_proj(states)
        # Not as a module: its hooks would run again on the way back.
        hidden = partial(_hidden, self.act_fn.forward)
        if not (torch.is_grad_enabled() and gate.requires_grad and up.requires_grad):
            return self.down_proj(hidden(gate, up))
        value = cast(Tensor, _Gated.apply(hidden, gate, up))
        again = _Again(value.data_ptr(), hidden, gate.detach(), up.detach())
        with saved_tensors_hooks(again.instead_of, _made):
            return self.down_proj(value)

    return type(f"Selective{kind.__name__}", (kind,), {"forward": forward})


@cache
def _normed(kind: type[nn.Module]) -> type[nn.Module]:
    plain = cast(Make, kind.forward)

    def forward(self: Any, states: Tensor) -> Tensor:  # noqa: ANN401 - as `is_rms_norm` says
        saves = self.weight.requires_grad or states.dtype is not torch.float32
        if not (torch.is_grad_enabled() and states.requires_grad and saves):
            return plain(self, states)
        return cast(Tensor, _Normed.apply(partial(plain, self), states, self.weight))

    return type(f"Selective{kind.__name__}", (kind,), {"forward": forward})


def _hidden(activation: Make, gate: Tensor, up: Tensor) -> Tensor:
    return activation(gate) * up


class _Again(NamedTuple):
    """What the down projection reads, to be made again where it wants to keep it."""

    address: int
    make: Make
    gate: Tensor
    up: Tensor

    def instead_of(self, kept: Tensor) -> "Tensor | _Shaped":
        """Return what is kept in place of a tensor: itself, unless it is the one."""
        if kept.data_ptr() == self.address and kept.numel() == self.gate.numel():
            return _Shaped(self, kept.shape)
        return kept


class _Shaped(NamedTuple):
    """The same, in the shape that it is wanted in."""

    again: _Again
    shape: torch.Size


def _made(kept: "Tensor | _Shaped") -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    make, gate, up = kept.again.make, kept.again.gate, kept.again.up
    return make(gate, up).view(kept.shape)


class _Context(Context, Protocol):
    """What autograd keeps for the way back."""

    make: Make


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Context, make: Make, gate: Tensor, up: Tensor) -> Tensor:
        ctx.make = make
        ctx.save_for_backward(gate, up)
        return make(gate, up)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: _Context, *slopes: Tensor
    ) -> tuple[None, *tuple[Tensor, ...]]:
        inputs = [kept.detach().requires_grad_() for kept in ctx.saved_tensors]
        with torch.enable_grad():
            value = ctx.make(*inputs)
        return None, *torch.autograd.grad(value, inputs, slopes[0])


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Context, make: Make, states: Tensor, weight: Tensor) -> Tensor:
        ctx.make = make
        ctx.save_for_backward(states, weight)
        return make(states)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: _Context, *slopes: Tensor
    ) -> tuple[None, Tensor, Tensor | None]:
        kept, weight = ctx.saved_tensors
        states = kept.detach().requires_grad_()
        inputs = [states, weight] if weight.requires_grad else [states]
        with torch.enable_grad():
            value = ctx.make(states)
        slope, *own = torch.autograd.grad(value, inputs, slopes[0])
        return None, slope, own[0] if own else None
