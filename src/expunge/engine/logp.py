"""Log-probabilities of tokens, with gradient, a chunk of positions at a time.

    log p(y) = z_y - log sum exp z        d log p(y) / dz = one_hot(y) - softmax(z)

The slope is made in place of the log-probabilities that the forward pass kept, so that a chunk
holds its logits twice at most, where PyTorch's operations hold them three times.

Where the head E is frozen, the only slope that is wanted is that of what it reads,

    d log p(y) / dh = E_y - softmax(z) E

whatever the loss makes of log p(y), so each chunk takes it while its logits are there.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from expunge.model.context import Context
from expunge.model.network import Network
from expunge.model.score import CHUNK


def chunked_logp(network: Network, hidden: Tensor, targets: Tensor) -> Tensor:
    """Return log p of the targets, [N, d] and [N] -> [N] float32.

    Where there are several chunks, memory does not grow with batch times vocabulary: their logits
    are computed again on the way back, or under a frozen head not needed there.

    Args:
        network: Whose head it is.
        hidden: What the head reads, with gradient.
        targets: Token ids.
    """

    def logp(rows: Tensor, wanted: Tensor) -> Tensor:
        return token_logp(network.logits(rows), wanted)

    if len(targets) <= CHUNK:
        return logp(hidden, targets)
    frozen = not any(weight.requires_grad for weight in network.head.parameters())
    if frozen and hidden.requires_grad and torch.is_grad_enabled():
        return _FrozenLogp.apply(hidden, targets, logp)  # type: ignore[return-value]
    pieces = zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
    return torch.cat([checkpoint(logp, h, t, use_reentrant=False) for h, t in pieces])


def token_logp(logits: Tensor, targets: Tensor) -> Tensor:
    """Return log p of one token a row, [n, V] and [n] -> [n]; its gradient can be taken once."""
    return _TokenLogp.apply(logits, targets)  # type: ignore[return-value]


class _FrozenLogp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Context, hidden: Tensor, targets: Tensor, logp: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        found: list[Tensor] = []
        slopes: list[Tensor] = []
        for rows, wanted in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True):
            read = rows.detach().requires_grad_()
            with torch.enable_grad():
                own = logp(read, wanted)
                # Rows do not depend on each other, so the sum has the slope of each.
                own.sum().backward()
            assert read.grad is not None
            slopes.append(read.grad)
            found.append(own.detach())
        ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(found)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Context, *slopes: Tensor
    ) -> tuple[Tensor, None, None]:
        (own,) = ctx.saved_tensors
        return (slopes[0].unsqueeze(-1) * own).to(own.dtype), None, None


class _TokenLogp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, logits: Tensor, targets: Tensor) -> Tensor:
        log_probs = torch.log_softmax(logits, dim=-1)
        places = targets.unsqueeze(-1)
        ctx.save_for_backward(log_probs, places)
        return log_probs.gather(-1, places).squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Context, *slopes: Tensor
    ) -> tuple[Tensor, None]:
        log_probs, places = ctx.saved_tensors
        slope = slopes[0].unsqueeze(-1)
        found = log_probs.exp_().mul_(-slope)
        return found.scatter_add_(-1, places, slope), None
