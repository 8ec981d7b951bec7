"""What is trained: an adapter, chosen matrices, or everything, held in float32 master copies.

A plain bf16 step at learning rate 1e-5 leaves most weights where they were: the update is smaller
than half a bf16 step and rounds away. So whatever is trained has a float32 master; the model's own
copy follows it, and gradients are added up in float32.

What a method may know of a model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from expunge.methods.base import Shape, Trains
from expunge.models.architecture import chosen_experts, picked, router_weights
from expunge.models.lora import LoraShape, adaptable, attach
from expunge.models.transformer import Network


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainableWeights:
    """The trained parameters of a model with their float32 masters, by full name."""

    parameters: dict[str, nn.Parameter]
    masters: dict[str, Tensor]
    lora: LoraShape | None
    hooks: tuple[RemovableHandle, ...] = ()
    """What hands gradients of narrow weights to their masters."""

    @property
    def count(self) -> int:
        """Number of trained scalars."""
        return sum(master.numel() for master in self.masters.values())

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the masters into the model."""
        for name, parameter in self.parameters.items():
            if self.masters[name] is not parameter:
                parameter.copy_(self.masters[name])

    def release(self) -> None:
        """Hand on no gradient any more, so that the model can be trained anew."""
        for hook in self.hooks:
            hook.remove()

    @torch.no_grad()
    def saved(self) -> dict[str, Tensor]:
        """Return copies of the masters."""
        return {name: master.detach().clone() for name, master in self.masters.items()}

    @torch.no_grad()
    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Set masters and model to saved values."""
        for name, master in self.masters.items():
            master.copy_(saved[name])
        self.publish()


def adapter(
    network: Network,
    shape: LoraShape,
    *,
    seed: int,
    importance: Mapping[str, Tensor] | None = None,
) -> TrainableWeights:
    """Train a LoRA adapter and nothing else; `importance` as in `lora.attach`."""
    attach(network, shape, seed=seed, importance=importance)
    return _gather(network, lambda name: "lora_" in name, lora=shape)


def adapted(network: Network, shape: LoraShape) -> TrainableWeights:
    """Reach for the plain weights of the layers that an adapter of this shape would correct."""
    network.model.requires_grad_(False)
    for layer in adaptable(network, shape).values():
        layer.weight.requires_grad_(True)
    return _gather(network, lambda name: True, lora=None)


def everything(network: Network, *, routers: bool = False) -> TrainableWeights:
    """Train all weights, but those of routers: moved ones would send tokens past what they know.

    Args:
        network: The model.
        routers: Whether routers train as well, as in plain fine-tuning.
    """
    unfreeze(network, routers=routers)
    return _gather(network, lambda name: True, lora=None)


def unfreeze(network: Network, *, routers: bool = False) -> None:
    """Mark all weights as trained, as `everything` means them."""
    network.model.requires_grad_(True)
    for weight in () if routers else router_weights(network.layers):
        weight.requires_grad_(False)


def as_they_are(network: Network) -> TrainableWeights:
    """Mark all weights as trained and hold none: their masters lie spread over processes."""
    unfreeze(network)
    return TrainableWeights(parameters={}, masters={}, lora=None)


def chosen(network: Network, trains: Trains) -> TrainableWeights:
    """Train the weights that a method or the user asks for.

    Raises:
        UsageError: As `picked`.
    """
    network.model.requires_grad_(False)
    for parameter in picked(network.layers, trains):
        parameter.requires_grad_(True)
    gathered = _gather(network, lambda name: True, lora=None)
    experts = chosen_experts(network.layers, trains)
    held = tuple(
        _only_experts(weight, experts[id(weight)])
        for weight in gathered.parameters.values()
        if id(weight) in experts
    )
    return replace(gathered, hooks=(*gathered.hooks, *held))


def _only_experts(weight: nn.Parameter, experts: Sequence[int]) -> RemovableHandle:
    """Take the gradient of all other experts away, [E, ...], so that no step moves them."""
    others = torch.ones(len(weight), *[1] * (weight.ndim - 1), dtype=torch.bool)
    others[list(experts)] = False
    others = others.to(weight.device)

    def only(gradient: Tensor) -> Tensor:
        return gradient.masked_fill(others, 0.0)

    return weight.register_hook(only)


def _gather(
    network: Network, keep: Callable[[str], bool], *, lora: LoraShape | None
) -> TrainableWeights:
    parameters: dict[str, nn.Parameter] = {}
    masters: dict[str, Tensor] = {}
    hooks: list[RemovableHandle] = []
    for name, parameter in network.model.named_parameters():
        if not parameter.requires_grad or not keep(name):
            continue
        parameters[name] = parameter
        if parameter.dtype == torch.float32:
            masters[name] = parameter
        else:
            masters[name], hook = _master(parameter)
            hooks.append(hook)
    return TrainableWeights(parameters=parameters, masters=masters, lora=lora, hooks=tuple(hooks))


def _master(parameter: nn.Parameter) -> tuple[Tensor, RemovableHandle]:
    master = parameter.detach().float().clone().requires_grad_(True)

    def move_gradient(low: Tensor) -> None:
        gradient = low.grad
        if gradient is None:
            return
        if master.grad is None:
            master.grad = gradient.float()
        else:
            master.grad.add_(gradient)
        low.grad = None

    return master, parameter.register_post_accumulate_grad_hook(move_gradient)


def shape_of(network: Network) -> Shape:
    """Return what a method may know of a model."""
    width = network.model.config.get_text_config().hidden_size
    return Shape(layers=len(network.layers), width=width, vocabulary=network.vocabulary)
