"""The wrappers of a run, put together: from a step's loss to the gradient that is descended."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.engine.pull import StepPull
from expunge.engine.weights import Weights
from expunge.wrappers.gradients import add
from expunge.wrappers.protocols import Combine, Gradient, Memory, Robust

Optimiser = Callable[[Mapping[str, Tensor], float, float], torch.optim.Optimizer]
"""Makes an optimiser from the trained weights, a learning rate and a weight decay."""
_MEAN = "average/"


def adamw(weights: Mapping[str, Tensor], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return the default optimiser."""
    return torch.optim.AdamW(list(weights.values()), lr=lr, weight_decay=weight_decay)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wraps:
    """What stands between the loss and the step; nothing by default."""

    robust: Robust | None = None
    combine: Combine | None = None
    mask: Mapping[str, Tensor] | None = None
    optimiser: Optimiser = adamw
    average_last: float = 0.0
    """Share of the steps, the last ones, whose weights are averaged into the result."""

    def gradient(self, pull: StepPull, memory: Memory, generator: torch.Generator) -> Gradient:
        """Return the gradient of one step."""
        if self.robust is None and self.combine is None:
            gradient = pull()
        else:
            if self.robust is None:
                forget = pull("forget")
            else:
                forget = self.robust.forget(pull, memory, generator)
            retain = pull("retain")
            if self.combine is None:
                gradient = add(forget, retain)
            else:
                gradient = self.combine.combine(forget, retain, memory)
        if self.mask is not None:
            for name, value in gradient.items():
                value.mul_(self.mask[name])
        return gradient

    @torch.no_grad()
    def average(self, weights: Weights, memory: Memory, *, step: int, steps: int) -> None:
        """Add the weights after `step` steps to their mean; after the last, set them to it."""
        first = steps - round(self.average_last * steps)
        if not self.average_last or step <= first:
            return
        for name, master in weights.masters.items():
            mean = memory.get(_MEAN + name)
            if mean is None:
                memory[_MEAN + name] = master.detach().clone()
            else:
                mean.add_((master - mean) / (step - first))
        if step == steps:
            weights.restore({name: memory[_MEAN + name] for name in weights.masters})
