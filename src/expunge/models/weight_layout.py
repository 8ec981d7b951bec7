"""Weights in the order in which a processor's products read them, while tokens are written.

A product with few rows takes its weights apart into the blocks that the processor's units work on,
every time anew, and that takes as long as the arithmetic. Who writes a token at a time multiplies
by the same weights again and again: here oneDNN puts a copy of them into that order once.
"""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from functools import partial

from torch import nn

from expunge.models.cpu_kernels import PlainLinear, multiplies, multiply, reorder
from expunge.models.lora import LoraLinear
from expunge.models.transformer import Network

LARGEST = 2 * 1024**3
"""Bytes of weights of which a copy is made; beyond it memory is dearer than time."""
WORTH_TOKENS = 16
"""Fewest new tokens for which putting weights in order pays: it takes as long as about five."""


@contextmanager
def reordered(network: Network, *, tokens: int) -> Generator[None]:
    """Let linear layers multiply by reordered copies of their weights, where that is worth it.

    The results are those of the plain layers up to rounding, and have no gradient. Weights must
    not change meanwhile.

    Args:
        network: The model. Adapters, weights of other kinds than PyTorch's own, and what lies on a
            card are left as they are.
        tokens: How many tokens will be written at most, one after the other.
    """
    layers = _layers(network.model) if tokens >= WORTH_TOKENS else []
    if sum(layer.weight.nbytes for layer in layers) > LARGEST:
        layers = []
    with ExitStack() as stack:
        for layer in layers:
            own = vars(layer)
            own["forward"] = partial(multiply, weight=reorder(layer.weight), bias=layer.bias)
            stack.callback(own.pop, "forward")
        yield


def _layers(model: nn.Module) -> list[nn.Linear]:
    """Return the layers that can be reordered, without the base layers of adapters.

    These are never called: the adapter computes their product.
    """
    bases = {module.base for module in model.modules() if isinstance(module, LoraLinear)}
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return [layer for layer in linear if layer not in bases and _is_plain(layer)]


def _is_plain(layer: nn.Linear) -> bool:
    weight = layer.weight
    return (
        type(layer) in (nn.Linear, PlainLinear)
        and type(weight) is nn.Parameter  # a quantised or a spread weight is of a class of its own
        and "forward" not in vars(layer)
        and weight.device.type == "cpu"
        and multiplies(weight.dtype)
    )
