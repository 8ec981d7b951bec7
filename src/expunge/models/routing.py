"""Routing: which experts the routers of a mixture choose for each token; observed, and replaced.

A router returns (scores [T, E], weights [T, k], experts [T, k]), as most families of transformers 5
do: T tokens, E experts, of which each token is sent to k. `mixing_weights` reads that form alone.
A dense model has no router: nothing is observed, and nothing is replaced.
"""

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from expunge.models.architecture import routers
from expunge.models.transformer import Network

Routes = dict[str, list[object]]
"""What each router returned, pass by pass, under its block's number and its name in the block."""


def all_routers(network: Network) -> dict[str, nn.Module]:
    """Return the routers of a model, under block number and name."""
    return {
        f"{index}.{name}": router
        for index, block in enumerate(network.layers)
        for name, router in routers(block).items()
    }


@contextmanager
def observed_routes(network: Network) -> Generator[Routes]:
    """Collect what the routers return inside the block."""
    seen: Routes = {name: [] for name in all_routers(network)}

    def keep(name: str, output: object) -> None:
        seen[name].append(output)

    with _on_routers(network, keep):
        yield seen


@contextmanager
def replaced_routes(network: Network, routes: Routes) -> Generator[None]:
    """Let the routers return what was collected, in its order, whatever they read.

    The passes must be those that were collected: the same tokens in the same batches.
    """
    left = {name: iter(outputs) for name, outputs in routes.items()}
    with _on_routers(network, lambda name, _: next(left[name])):
        yield


@contextmanager
def _on_routers(network: Network, change: Callable[[str, object], object]) -> Generator[None]:
    with ExitStack() as stack:
        for name, router in all_routers(network).items():

            def hook(
                _module: nn.Module, _inputs: object, output: object, name: str = name
            ) -> object:
                return change(name, output)

            stack.callback(router.register_forward_hook(hook).remove)
        yield


def mixing_weights(output: object) -> Tensor | None:
    """Return each expert's share in each token's result, [T, E] float32; rows sum to 1.

    None where a router's output has another form than this module's.

    Example:
        >>> scores, weights = torch.zeros(1, 3), torch.tensor([[0.5, 1.5]])
        >>> mixing_weights((scores, weights, torch.tensor([[2, 0]])))
        tensor([[0.7500, 0.0000, 0.2500]])
        >>> mixing_weights(scores) is None
        True
    """
    if not isinstance(output, tuple) or len(output) < 3:
        return None
    scores, weights, experts = output[:3]
    if not all(isinstance(each, Tensor) and each.ndim == 2 for each in output[:3]):
        return None
    if experts.is_floating_point() or weights.shape != experts.shape:
        return None
    spread = scores.new_zeros(scores.shape, dtype=torch.float32)
    spread.scatter_(1, experts.long(), weights.float())
    return spread / spread.sum(1, keepdim=True)
