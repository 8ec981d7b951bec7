"""Pulling gradients: the gradient of one step's terms at the weights, or at a point near them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from expunge.engine.observe import Observer
from expunge.engine.streams import Draw
from expunge.engine.weights import Weights
from expunge.errors import ResourceError
from expunge.methods.terms import Side


class StepPull:
    """The gradients of one optimiser step.

    Args:
        observer: Evaluates the terms.
        weights: What is trained.
        draw: The records of the step.
        coefs: Coefficient of each term.
        tokens_per_pass: Largest number of padded tokens in one forward pass.
    """

    def __init__(
        self,
        observer: Observer,
        weights: Weights,
        draw: Draw,
        *,
        coefs: Mapping[str, float],
        tokens_per_pass: int,
    ) -> None:
        self._observer = observer
        self._weights = weights
        self._draw = draw
        self._coefs = coefs
        self.tokens_per_pass = tokens_per_pass
        """Becomes smaller where memory was full."""
        self.values: dict[str, float] = {}
        """Each term's value where it was first pulled, without coefficient."""

    def __call__(
        self, side: Side | None = None, *, at: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return the gradient of the terms on one side, or of all; see `wrappers.protocols.Pull`.

        Raises:
            ResourceError: A single record does not fit in memory.
        """
        if at is None:
            return self._gradient(side)
        masters = self._weights.masters
        here = {name: master.detach().clone() for name, master in masters.items()}
        self._weights.restore({name: w + at.get(name, 0.0) for name, w in here.items()})
        try:
            return self._gradient(side)
        finally:
            self._weights.restore(here)

    def _gradient(self, side: Side | None) -> dict[str, Tensor]:
        """Accumulate over micro-batches; if memory is full, start again in smaller parts."""
        while True:
            values: dict[str, float] = {}
            try:
                for part in self._observer.step_loss(
                    self._draw, coefs=self._coefs, tokens_per_pass=self.tokens_per_pass, side=side
                ):
                    part.loss.backward()
                    for name, value in part.values.items():
                        values[name] = values.get(name, 0.0) + value
            except (torch.OutOfMemoryError, MemoryError) as error:
                self._take()
                self._shrink(error)
                continue
            self.values = values | self.values
            return self._take()

    def _take(self) -> dict[str, Tensor]:
        taken: dict[str, Tensor] = {}
        for name, master in self._weights.masters.items():
            if master.grad is not None:
                taken[name] = master.grad
                master.grad = None
        return taken

    def _shrink(self, error: BaseException) -> None:
        streams = self._observer.streams
        longest = max(len(record.ids) for record in (*streams.forget, *streams.retain))
        if self.tokens_per_pass <= longest:
            raise ResourceError(
                "out-of-memory",
                what=f"one record of {longest} tokens does not fit in memory",
                why="the batch was already reduced to a single record",
                fix="lower train.max_length or train.rank, or use a larger machine",
            ) from error
        self.tokens_per_pass = max(longest, self.tokens_per_pass // 2)
