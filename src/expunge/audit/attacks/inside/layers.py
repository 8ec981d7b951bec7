"""A model that ends early: the blocks above a layer pass on what they read."""

from collections.abc import Generator
from contextlib import contextmanager

from torch import Tensor

from expunge.model.network import Network


@contextmanager
def cut_above(network: Network, layer: int) -> Generator[None]:
    """Read the answer from the states after block `layer`: final norm and head apply to them."""

    def pass_on(states: Tensor, *_inputs: object, **_options: object) -> Tensor | tuple[Tensor]:
        return (states,) if network.in_tuples else states

    skipped = list(network.layers)[layer + 1 :]
    try:
        for block in skipped:
            block.forward = pass_on
        yield
    finally:
        for block in skipped:
            del block.forward


def depths(network: Network, shares: tuple[float, ...]) -> list[int]:
    """Return the blocks that end at these shares of the depth, without the last block."""
    count = len(network.layers)
    chosen = {max(0, min(count - 2, round(share * count) - 1)) for share in shares}
    return sorted(chosen) if count > 1 else []
