"""Real kernels: the weights as torchao or bitsandbytes really store and multiply them.

Protocol: a copy of the model, quantised by the library (weight only: int8, int4 with torchao; int8,
nf4 with bitsandbytes), plain questions, greedy. Budget: one answer a fact. Simulated rounding
(`rounding.py`) leaves out how activations are rounded and accumulated; this does not. Both
libraries are optional.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import ClassVar, Literal

import torch
from torch import nn

from expunge.attacks.base import Attempt, Unavailable, Unmet
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.evidence.context import AttackMeta
from expunge.models.transformer import Network

Kernel = Literal["torchao-int8", "torchao-int4", "bitsandbytes-int8", "bitsandbytes-nf4"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RealKernel:
    """One library and format."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="compression", access="T3", needs="the library (`pip install 'expunge[quantise]'`)"
    )

    kernel: Kernel

    @property
    def name(self) -> str:
        """Return library and format."""
        return self.kernel

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Ask the quantised copy."""
        library, _, form = self.kernel.partition("-")
        if find_spec(library) is None:
            raise Unavailable(f"{library} is not installed: pip install 'expunge[quantise]'")
        if not any(isinstance(module, nn.Linear) for module in target.network.layers.modules()):
            raise Unmet("the model has no plain linear layers")
        model = copy.deepcopy(target.network.model)
        network = Network(model)
        network.guard = target.network.guard
        try:
            if library == "torchao":
                _torchao(network.layers, form)
            else:
                _bitsandbytes(network.layers, form, target.network.device)
            return replace(target, network=network).asks(tested)
        except (RuntimeError, AssertionError, ImportError, ValueError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise Unavailable(
                f"{library} cannot do {form} on this machine: {first[:120]}"
            ) from error


def _torchao(layers: nn.Module, form: str) -> None:
    from torchao.quantization import (  # type: ignore[reportMissingImports]
        Int4WeightOnlyConfig,
        Int8WeightOnlyConfig,
        quantize_,
    )

    quantize_(layers, Int8WeightOnlyConfig() if form == "int8" else Int4WeightOnlyConfig())


def _bitsandbytes(layers: nn.Module, form: str, device: torch.device) -> None:
    from bitsandbytes.nn.modules import (  # type: ignore[reportMissingImports]
        Int8Params,
        Linear4bit,
        Linear8bitLt,
        Params4bit,
    )

    for parent in list(layers.modules()):
        for name, child in list(parent.named_children()):
            if not isinstance(child, nn.Linear):
                continue
            shape, bias = (
                (child.in_features, child.out_features),
                dict(child.named_parameters()).get("bias") is not None,
            )
            weight = child.weight.detach().cpu()
            if form == "int8":
                layer = Linear8bitLt(*shape, bias=bias, has_fp16_weights=False)
                layer.weight = Int8Params(
                    weight,
                    requires_grad=False,
                    has_fp16_weights=False,  # pyright: ignore[reportCallIssue] - made by __new__
                )
            else:
                layer = Linear4bit(*shape, bias=bias, quant_type="nf4")
                layer.weight = Params4bit(
                    weight,
                    requires_grad=False,
                    quant_type="nf4",  # pyright: ignore[reportCallIssue] - made by __new__
                )
            if bias:
                layer.bias = child.bias
            setattr(parent, name, layer.to(device))
