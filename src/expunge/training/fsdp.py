"""All weights spread over processes: FSDP2 (`torch.distributed.fsdp.fully_shard`).

A file of its own because that import takes long, and only a run that spreads its weights needs it.

Each process keeps one part of every weight in float32, with its part of gradient and moments; a
block's weights are gathered in the model's own format while that block runs. The parts are the
masters of `weights`: what is gathered is a rounded copy.
"""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from expunge.models.transformer import Network
from expunge.training.distributed import Root, Team, whole
from expunge.training.trainable_weights import TrainableWeights, unfreeze


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """A model whose weights lie spread over the processes of a team."""

    network: Network
    weights: TrainableWeights
    team: Team
    """The team that trains it."""

    @torch.no_grad()
    def collect(self, model: nn.Module) -> None:
        """Copy the weights into a whole model of the same shape, one at a time.

        All processes must call this together.
        """
        for name, master in self.weights.masters.items():
            model.get_parameter(name).copy_(whole(master))


def spread_out(network: Network, team: Team, *, device: torch.device) -> Spread:
    """Return a spread copy of a model, all of it to be trained but its routers.

    The model that is given moves to host memory, so that the device never holds both in full.

    Args:
        network: The model as one process holds it, the same in all processes.
        team: The processes.
        device: Where to compute.
    """
    dtype = network.model.dtype
    network.model.to(torch.device("cpu"))  # type: ignore[arg-type]
    copied = Network(copy.deepcopy(network.model))
    unfreeze(copied)
    root = Root(copied.model)
    mesh = init_device_mesh(device.type, (team.size,))
    formats = MixedPrecisionPolicy(
        param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for module in (*copied.layers, root):
        fully_shard(module.float(), mesh=mesh, reshard_after_forward=True, mp_policy=formats)
    root.to(device)  # what is left: buffers
    masters: dict[str, Tensor] = {
        name: parameter
        for name, parameter in copied.model.named_parameters()
        if isinstance(parameter, DTensor) and parameter.requires_grad
    }
    trained = {name: copied.model.get_parameter(name) for name in masters}
    weights = TrainableWeights(parameters=trained, masters=masters, lora=None)
    return Spread(network=copied, weights=weights, team=replace(team, root=root))
