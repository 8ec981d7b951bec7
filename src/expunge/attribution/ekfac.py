"""EK-FAC influence between records (arXiv:2308.03296), in the projected space of LoRA gradients.

    K_S = mean G G',  K_A = mean G' G        over records; G [q, r] of one layer
    U_S, U_A: their eigenvectors;   lambda_ij = mean ((U_S' G U_A)_ij)^2
    H^-1/2 G = (U_S' G U_A)_ij / sqrt(lambda_ij + damping mean(lambda))
    influence(d, e) = <H^-1/2 G_d, H^-1/2 G_e> / (|H^-1/2 G_d| |H^-1/2 G_e|)   over all layers

Larger: learning d lowers the loss of e more. The division by the lengths is that of relative
influence (arXiv:2003.11630): without it a few records of large gradient lead every ranking.

Differs from the paper: K_S and K_A come from the gradients of records, not of tokens, and from true
labels, not sampled ones; the space is the projected one.
"""

import torch
from torch import Tensor

DAMPING = 0.1
"""In units of the mean eigenvalue, as in the paper."""


def whitened(gradients: Tensor, *, damping: float = DAMPING) -> Tensor:
    """Return H^-1/2 G of every record, [n, layers, q, r], from all of them.

    Example:
        >>> whitened(torch.full((3, 1, 1, 1), 2.0), damping=0.0).abs().flatten().tolist()
        [1.0, 1.0, 1.0]
    """
    left = torch.linalg.eigh(torch.einsum("nlqr,nlpr->lqp", gradients, gradients)).eigenvectors
    right = torch.linalg.eigh(torch.einsum("nlqr,nlqs->lrs", gradients, gradients)).eigenvectors
    turned = torch.einsum("lqi,nlqr,lrj->nlij", left, gradients, right)
    curvature = turned.square().mean(0)  # [layers, q, r]
    floor = damping * curvature.mean((-1, -2), keepdim=True) + torch.finfo(turned.dtype).tiny
    return turned / (curvature + floor).sqrt()


def cosines(queries: Tensor, records: Tensor) -> Tensor:
    """Return the cosine of each pair, [m, ...] and [n, ...] -> [m, n]."""
    sides = [torch.nn.functional.normalize(side.flatten(1), dim=1) for side in (queries, records)]
    return sides[0] @ sides[1].T
