"""Curvature by sampled labels: the Gauss-Newton-Bartlett estimate of Sophia (arXiv:2305.14342).

    diag = N g'^2,   g' = grad (1/N) sum_t -log p(y'_t),   y'_t ~ p(. | x, y_<t)

over the N scored tokens of a step, forget and retain. With labels drawn from the model itself the
expectation is the diagonal of the Gauss-Newton matrix of the mean NLL; with the true labels it is
not.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from expunge.methods.terms import Distribution, Predictions, Stream

_ODD = 1_000_003


def sampled_nll(seed: int) -> Callable[[Predictions], Tensor]:
    """Return the loss -log p(y') for y' drawn from p, [n, V] -> [n] nats.

    The draw depends on the seed and on the tokens alone: it must be the same when the loss is
    computed again on the way back.
    """

    def loss(seen: Predictions) -> Tensor:
        log_p = torch.log_softmax(seen.logits, dim=-1)
        content = int(((seen.targets + 1) * (seen.places + 1)).sum())
        generator = torch.Generator().manual_seed((seed * _ODD + content) % 2**63)
        level = torch.rand(len(log_p), 1, generator=generator).to(log_p)
        summed = log_p.detach().exp().cumsum(-1)
        drawn = torch.searchsorted(summed, level * summed[:, -1:])
        return -log_p.gather(-1, drawn.clamp(max=log_p.shape[-1] - 1)).squeeze(-1)

    return loss


def curvature_terms(seed: int) -> tuple[Distribution, ...]:
    """Return the terms whose gradient, weighed by their share of tokens, is g'."""
    loss = sampled_nll(seed)
    return tuple(
        Distribution(name=stream.value, streams=(stream,), coef=1.0, loss=loss)
        for stream in (Stream.FORGET, Stream.RETAIN)
    )
