"""MMD: how far a few vectors are from a sample of Gaussian noise, in closed form.

MMD^2 of T vectors x_t to N(0, I) with the kernel k(x, y) = exp(-|x - y|^2 / b) is

    (1/T^2) sum_st k(x_s, x_t) - (2/T) sum_t E_y k(x_t, y) + E_yy' k(y, y')
    E_y k(x, y) = (b / (b + 2))^(d/2) exp(-|x|^2 / (b + 2)),  E_yy' k(y, y') = (b / (b + 4))^(d/2)

The expectations over the Gaussian are exact, nothing is sampled. The first sum keeps vectors apart:
without it all of them would collapse to zero.
"""

import torch
from torch import Tensor

WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Bandwidths b in units of 2 d: two draws of N(0, I) are sqrt(2 d) apart."""


def noise_distance(vectors: Tensor) -> Tensor:
    """Return MMD^2 to N(0, I), the mean over five bandwidths; [T, d] -> scalar, 0 to 2."""
    wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    width = wide.shape[-1]
    squares = wide.square().sum(-1)
    apart = (squares[:, None] + squares[None] - 2 * wide @ wide.T).clamp(min=0.0)
    total = squares.new_zeros(())
    for factor in WIDTHS:
        b = 2 * width * factor
        within = torch.exp(-apart / b).mean()
        across = (b / (b + 2)) ** (width / 2) * torch.exp(-squares / (b + 2)).mean()
        total = total + within - 2 * across + (b / (b + 4)) ** (width / 2)
    return total / len(WIDTHS)
