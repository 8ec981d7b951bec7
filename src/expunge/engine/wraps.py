"""The wrappers of a run, put together: from a step's loss to the gradient that is descended."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from expunge.engine.needs import Pulls
from expunge.engine.pull import StepPull
from expunge.engine.weights import Weights
from expunge.methods.terms import Shape, Stream
from expunge.wrappers.gradients import add
from expunge.wrappers.optimisers.adamw import AdamW
from expunge.wrappers.optimisers.sophia import SophiaG
from expunge.wrappers.protocols import Combine, Gradient, Latent, Mask, Memory, Optimiser, Robust

_MEAN = "average/"
_FEWEST = 2
"""Steps whose mean is taken, at least: that of one is the step itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wraps:
    """What stands between the loss and the step; nothing by default."""

    robust: Robust | None = None
    combine: Combine | None = None
    choose: Mask | None = None
    """Makes `mask` before the first step."""
    mask: Mapping[str, Tensor] | None = None
    optimiser: Optimiser = field(default_factory=AdamW)
    average_last: float = 0.0
    """Share of the steps, the last ones and at least two, whose weights are averaged into the
    result; 0: none."""

    @property
    def streams(self) -> set[Stream]:
        """Streams that are read even where no term of the method reads them."""
        if self.optimiser.curved:
            return {Stream.FORGET, Stream.RETAIN}
        return set() if self.robust is None else {Stream.FORGET}

    def pulls(self, shape: Shape) -> Pulls:
        """Return how a step takes its gradient, for the plan."""
        robust = self.robust
        return Pulls(
            apart=robust is not None or self.combine is not None,
            forget=1 if robust is None else robust.pulls,
            moved=robust.block(shape) if isinstance(robust, Latent) else None,
        )

    def gradient(self, pull: StepPull, memory: Memory, generator: torch.Generator) -> Gradient:
        """Return the gradient of one step."""
        if self.robust is None and self.combine is None:
            gradient = pull()
        else:
            retain = pull("retain")
            if self.robust is None:
                forget = pull("forget")
            else:
                forget = self.robust.forget(pull, retain, memory, generator)
            if self.combine is None:
                gradient = add(forget, retain)
            else:
                gradient = self.combine.combine(forget, retain, memory)
        if self.mask is not None:
            for name, value in gradient.items():
                value.mul_(self.mask[name])
        return gradient

    def refresh(
        self, optimiser: torch.optim.Optimizer, pull: StepPull, generator: torch.Generator
    ) -> None:
        """Give an optimiser that weighs steps by curvature a fresh estimate when it is due."""
        if isinstance(optimiser, SophiaG) and optimiser.due:
            seed = int(torch.randint(2**31, (), generator=generator))
            optimiser.refresh(pull.curvature(seed))

    @torch.no_grad()
    def average(self, weights: Weights, memory: Memory, *, step: int, steps: int) -> None:
        """Add the weights after `step` steps to the mean of the last ones."""
        first = steps - max(_FEWEST, round(self.average_last * steps))
        if not self.average_last or step <= first:
            return
        for name, master in weights.masters.items():
            mean = memory.get(_MEAN + name)
            if mean is None:
                memory[_MEAN + name] = master.detach().clone()
            else:
                mean.add_((master - mean) / (step - first))

    def settle(self, weights: Weights, memory: Memory) -> bool:
        """Set the weights to their mean, where one was begun; tell whether it was."""
        mean = {name: memory[_MEAN + name] for name in weights.masters if _MEAN + name in memory}
        if mean:
            weights.restore(mean)
        return bool(mean)
