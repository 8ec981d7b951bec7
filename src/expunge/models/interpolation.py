"""Walking between two sets of weights: (1 - a) original + a unlearned, in place, then undone."""

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.models.transformer import Network


def snapshot(network: Network) -> dict[str, Tensor]:
    """Copy the weights to host memory, by name."""
    return {
        name: value.detach().to("cpu", copy=True)
        for name, value in network.model.state_dict().items()
    }


def same_shapes(network: Network, other: Mapping[str, Tensor]) -> bool:
    """Tell whether weights have the names and shapes of others: else there is nothing between."""
    own = network.model.state_dict()
    return own.keys() == other.keys() and all(own[n].shape == w.shape for n, w in other.items())


def changed(network: Network, before: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep of an earlier snapshot only the tensors that differ from the weights now."""
    now = network.model.state_dict()
    return {
        name: value for name, value in before.items() if not torch.equal(now[name].cpu(), value)
    }


@contextmanager
def interpolated(network: Network, original: Mapping[str, Tensor], share: float) -> Generator[None]:
    """Hold the weights at (1 - share) original + share now inside the block.

    Share 0 is the original and share 1 the weights as they are, both bit for bit.

    Args:
        network: Carries the unlearned weights.
        original: The original's tensors by name; those not given did not change.
        share: How far from the original.
    """
    state = network.model.state_dict()
    kept = {name: state[name].detach().clone() for name in original}
    try:
        with torch.no_grad():
            for name, value in original.items():
                there = value.to(state[name].device)
                if share == 0:
                    state[name].copy_(there)
                elif share != 1:
                    mixed = torch.lerp(there.float(), kept[name].float(), share)
                    state[name].copy_(mixed.to(state[name].dtype))
        yield
    finally:
        with torch.no_grad():
            for name, value in kept.items():
                state[name].copy_(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelPair:
    """A model and the original; each is there only inside its own block."""

    other: Callable[[], AbstractContextManager[Network]]
    original: Callable[[], AbstractContextManager[Network]]

    @classmethod
    def beside(cls, other: Network, original: Network) -> "ModelPair":
        """Return a pair of which both are loaded."""
        return cls(other=lambda: nullcontext(other), original=lambda: nullcontext(original))

    @classmethod
    def swapped(cls, other: Network, original: Mapping[str, Tensor]) -> "ModelPair":
        """Return a pair in one network: the original's tensors are put in where they differ."""

        @contextmanager
        def seated() -> Generator[Network]:
            with interpolated(other, original, 0.0):
                yield other

        return cls(other=lambda: nullcontext(other), original=seated)
