"""Gradient saliency: which matrices the facts pull at more than what stays (arXiv:2310.12508).

    saliency(W) = rms(dL_f / dW) / rms(dL_r / dW)        rms: root of the mean square over W

L is the mean NLL per scored token, nats, of the forget and the retain records. Above 1 the forget
records pull harder at W than the retain records do. A part of a model takes the mean over its
weights: rms over all its matrices.

Differs from the paper: SalUn thresholds single weights by dL_f alone. Here whole matrices are
ranked, and what everything pulls at does not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expunge.attribution.parts import ModelPart
from expunge.data.tokenization import Encoded
from expunge.models.batching import by_length, collate
from expunge.models.transformer import Network
from expunge.training.forward import chunked_logp

TOKENS = 1024
"""Padded tokens of one backward pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GradientSaliency:
    """Saliency of parts, and of their matrices by name in the block."""

    parts: Mapping[ModelPart, float]
    matrices: Mapping[tuple[int, str], float]


def nll_gradient(
    network: Network,
    records: Sequence[Encoded],
    weights: Mapping[ModelPart, Mapping[str, nn.Parameter]],
    *,
    pad_id: int,
) -> dict[ModelPart, dict[str, Tensor]]:
    """Return the gradient of the mean NLL per scored token, by part and matrix."""
    flat = [weight for own in weights.values() for weight in own.values()]
    network.model.requires_grad_(False)
    for weight in flat:
        weight.requires_grad_(True)
        weight.grad = None
    scored = sum(len(record.ids) - record.start for record in records)
    for group in by_length([len(record.ids) for record in records], tokens=TOKENS):
        batch = collate([records[i] for i in group], pad_id=pad_id, device=network.device)
        hidden = network.hidden(batch.ids, batch.rows, batch.columns)
        (-chunked_logp(network, hidden, batch.targets).sum() / scored).backward()
    found = {
        part: {
            name: torch.zeros_like(weight) if weight.grad is None else weight.grad
            for name, weight in own.items()
        }
        for part, own in weights.items()
    }
    for weight in flat:
        weight.grad = None
    network.model.requires_grad_(False)
    return found


def gradient_saliency(
    forget: Mapping[ModelPart, Mapping[str, Tensor]],
    retain: Mapping[ModelPart, Mapping[str, Tensor]],
) -> GradientSaliency:
    """Return saliency from the gradients of both sets.

    Example:
        >>> one = {ModelPart(0, "mlp"): {"mlp.up": torch.ones(2, 2)}}
        >>> two = {ModelPart(0, "mlp"): {"mlp.up": torch.full((2, 2), 0.5)}}
        >>> gradient_saliency(one, two).parts
        {ModelPart(block=0, kind='mlp'): 2.0}
    """
    parts = {
        part: _ratio(list(own.values()), list(retain[part].values()))
        for part, own in forget.items()
    }
    matrices = {
        (part.block, name): _ratio([slope], [retain[part][name]])
        for part, own in forget.items()
        for name, slope in own.items()
    }
    return GradientSaliency(parts=parts, matrices=matrices)


def _ratio(forget: Sequence[Tensor], retain: Sequence[Tensor]) -> float:
    above, below = (
        float(sum(s.double().square().sum() for s in side)) for side in (forget, retain)
    )
    return (above / below) ** 0.5 if below else 0.0
