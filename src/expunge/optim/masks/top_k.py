"""The part that masks share: keep the weights, or whole neurons, with the largest scores."""

from collections.abc import Mapping

import torch
from torch import Tensor

UNITS = ("weight", "neuron")


def keep_largest(scores: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return True at exactly round(share * n) of all n scores, and at one at least.

    The scores of all tensors compete. Of equal scores the first ones are taken, so that the choice
    is the same every time and the count is exact even where most scores are zero.

    Example:
        >>> keep_largest({"w": torch.tensor([0.1, 0.9, 0.5])}, share=0.34)
        {'w': tensor([False,  True, False])}
    """
    flat = torch.cat([score.flatten().cpu() for score in scores.values()])
    wanted = max(1, round(share * len(flat)))
    bar = flat.kthvalue(len(flat) - wanted + 1).values  # the smallest score that is kept
    kept = flat > bar
    ties = (flat == bar).nonzero().flatten()
    kept[ties[: wanted - int(kept.sum())]] = True
    parts = kept.split([score.numel() for score in scores.values()])
    return {
        name: part.view(score.shape).to(score.device)
        for (name, score), part in zip(scores.items(), parts, strict=True)
    }


def neurons(values: Tensor) -> Tensor:
    """Return the Euclidean length of each neuron's values, [n, ...] -> [n].

    A neuron is a row of the tensor as it is stored: the weights into one output of a linear layer
    (of one input in GPT-2, which stores them transposed), the embedding of one token, one number of
    a bias or norm.
    """
    return values.flatten(1).norm(dim=1) if values.ndim > 1 else values.abs()


def spread_out(kept: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Repeat the choice of a neuron for each of its weights, [n] -> the shape of the weight."""
    return {
        name: kept[name].view(-1, *[1] * (weight.ndim - 1)).expand_as(weight).contiguous()
        for name, weight in weights.items()
    }


def filled(gradient: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the gradient with zeros for the weights that it does not reach."""
    return {
        name: gradient[name] if name in gradient else torch.zeros_like(weight)
        for name, weight in weights.items()
    }
