"""Compression: the weights held at fewer bits, and the question asked again.

Protocol: the linear layers of the blocks are rounded and restored to floats in place, no
calibration; plain questions, greedy. Budget: one answer a fact and form. Forms:

    int8   symmetric, one scale per output row         int4   symmetric, one scale per 128 inputs
    nf4    16 quantiles of a normal, 64 weights a scale (QLoRA, arXiv:2305.14314)
    q8_0, q4_0   the GGUF formats, through the `gguf` package; rows whose width is no multiple of
                 32 stay as they are, as in llama.cpp

Updates smaller than a quantisation step vanish: 21 % of forgotten knowledge kept became 83 % at
4 bits (arXiv:2410.16454). Embeddings and head stay as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from expunge.attacks.base import Attempt
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.evidence.collect import PlainForm
from expunge.evidence.context import AttackMeta
from expunge.models.number_formats import quantise_dequantise, rewritten
from expunge.models.transformer import Network

Form = Literal["int8", "int4", "nf4", "q8_0", "q4_0"]

NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""The code book of NormalFloat4: quantiles of a normal distribution, scaled to [-1, 1]."""

_NF4_BLOCK = 64
_GGUF_BLOCK = 32


def nf4(weight: Tensor) -> Tensor:
    """Round to the nearest NF4 code, one absolute maximum per 64 weights; [out, in] -> same."""
    flat = weight.float().reshape(-1)
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % _NF4_BLOCK)).view(-1, _NF4_BLOCK)
    scale = padded.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    codes = torch.tensor(NF4, device=weight.device)
    middles = (codes[1:] + codes[:-1]) / 2
    rounded = codes[torch.bucketize(padded / scale, middles)] * scale
    return rounded.view(-1)[: len(flat)].view(weight.shape).to(weight.dtype)


def gguf_round_trip(weight: Tensor, *, form: Literal["q8_0", "q4_0"]) -> Tensor:
    """Quantise to a GGUF format and back; [out, in] -> same."""
    from gguf import GGMLQuantizationType, dequantize, quantize

    if weight.shape[-1] % _GGUF_BLOCK:
        return weight
    kind = GGMLQuantizationType[form.upper()]
    array = weight.detach().float().cpu().contiguous().numpy()
    return torch.from_numpy(dequantize(quantize(array, kind), kind)).to(weight)


FORMS: Mapping[Form, Callable[[Tensor], Tensor]] = {
    "int8": partial(quantise_dequantise, bits=8, group=None),
    "int4": partial(quantise_dequantise, bits=4, group=128),
    "nf4": nf4,
    "q8_0": partial(gguf_round_trip, form="q8_0"),
    "q4_0": partial(gguf_round_trip, form="q4_0"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Rounding(PlainForm):
    """One form of fewer bits."""

    meta: ClassVar[AttackMeta] = AttackMeta(family="compression", access="T3", needs="questions")

    form: Form

    @property
    def name(self) -> str:
        """Return the form."""
        return self.form

    def held(self, network: Network) -> AbstractContextManager[None]:
        """Hold the linear layers of the blocks at the rounded weights."""
        return rewritten(network, FORMS[self.form])

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Ask while the weights are rounded."""
        with self.held(target.network):
            return target.asks(tested)
