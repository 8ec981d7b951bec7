"""Simulated quantisation: weights rounded to int8 or int4 and back, as a test of depth.

Forgetting that is smaller than a quantisation step is undone by quantising (arXiv:2410.16454).
Round-to-nearest, symmetric, no calibration data: what the simplest deployment tool would do.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from expunge.models.architecture import stacks
from expunge.models.transformer import Network


def quantise_dequantise(weight: Tensor, *, bits: int, group: int | None) -> Tensor:
    """Round a weight matrix to `bits` signed bits and back.

    q = clamp(round(w / s), -2^(b-1), 2^(b-1) - 1), s = max|w| / (2^(b-1) - 1) for each output row
    (`group` None) or for each run of `group` inputs of a row.

    Args:
        weight: [out, in].
        bits: Width of the code, 2 to 16.
        group: Inputs that share a scale; a last, shorter group is allowed.

    Returns:
        The rounded weight in the format of `weight`.
    """
    top = 2 ** (bits - 1) - 1  # codes lie in -top - 1 .. top
    wide = weight.float()  # [out, in]
    size = wide.shape[1] if group is None else group
    blocks = []
    for block in wide.split(size, dim=1):
        # [out, 1]; the floor keeps a row of zeros from dividing by zero.
        step = block.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        step = step / top
        blocks.append((block / step).round().clamp(-top - 1, top) * step)
    return torch.cat(blocks, dim=1).to(weight.dtype)


@contextmanager
def rewritten(network: Network, change: Callable[[Tensor], Tensor]) -> Generator[None]:
    """Hold the linear layers of the decoder at changed weights for a while, then restore them.

    Experts that lie in one tensor, [experts, out, in], are changed one by one.

    Args:
        network: The model; afterwards its weights are exactly what they were.
        change: Maps a weight matrix [out, in] to another of its shape and format.
    """
    kept: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for module in network.layers.modules():
                if isinstance(module, nn.Linear | Conv1D):
                    weight = module.weight
                    kept.append((weight, weight.detach().clone()))
                    # Conv1D holds [in, out].
                    changed = change(weight.T if isinstance(module, Conv1D) else weight)
                    weight.copy_(changed.T if isinstance(module, Conv1D) else changed)
                for stack in stacks(module):
                    kept.append((stack, stack.detach().clone()))
                    for matrix in stack:
                        matrix.copy_(change(matrix))
        yield
    finally:
        with torch.no_grad():
            for weight, original in kept:
                weight.copy_(original)


@contextmanager
def quantised(network: Network, *, bits: int) -> Generator[None]:
    """Hold the linear layers of the decoder at `bits` bits for a while, then restore them exactly.

    int8 shares a scale per output row, int4 per 128 inputs. Embeddings and head stay as they are,
    as in common deployments.
    """
    group = 128 if bits == 4 else None
    with rewritten(network, partial(quantise_dequantise, bits=bits, group=group)):
        yield
