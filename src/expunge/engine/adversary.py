"""The latent adversary: it moves hidden states so that forgotten answers come back."""

from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.engine.logp import chunked_logp
from expunge.model.batch import Batch
from expunge.model.network import Network, Push


@dataclass(frozen=True, kw_only=True, slots=True)
class Adversary:
    """Projected descent on a change of the residual stream; formula in `wrappers.robust.lat`."""

    network: Network
    layer: int
    radius: float
    steps: int

    def push(self, batch: Batch, signs: Tensor) -> Push:
        """Return the change that makes the targets likely.

        Args:
            batch: The records.
            signs: [N] 1 for scored tokens to make likely, -1 for those to make unlikely.
        """
        width = self.network.model.config.get_text_config().hidden_size
        device, dtype = self.network.device, self.network.model.dtype
        change = torch.zeros(*batch.ids.shape, width, device=device, dtype=dtype)
        for _ in range(self.steps):
            slope = self._slope(batch, signs, change).float()
            length = slope.norm(dim=-1, keepdim=True).clamp(min=1e-30)
            moved = change.float() - 2 * self.radius / self.steps * slope / length
            over = moved.norm(dim=-1, keepdim=True) / self.radius
            change = (moved / over.clamp(min=1.0)).to(change.dtype)
        return Push(self.layer, change)

    def _slope(self, batch: Batch, signs: Tensor, change: Tensor) -> Tensor:
        change = change.detach().requires_grad_(True)
        seen = self.network.observe(batch.ids, push=Push(self.layer, change), layout=batch.layout)
        assert seen.final is not None, "the whole trunk ran"
        logp = chunked_logp(self.network, seen.final[batch.rows, batch.columns], batch.targets)
        (slope,) = torch.autograd.grad(-(signs * logp).sum(), change)
        return slope.detach()
