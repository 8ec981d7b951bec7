"""Gradients of single records at a fresh LoRA adapter, projected (LoGra, arXiv:2405.13954).

    y = W x + B A x,   B = 0:   dL/dB = sum_t g_t (A x_t)'        [out, r]
    G = P dL/dB = sum_t (P g_t) (A x_t)'                          [q, r] of each linear layer

x_t is the input of a linear layer at token t, g_t the gradient of the record's mean NLL (nats per
token) by its output; A [r, in] and P [q, out] are drawn once, N(0, 1) / sqrt(r) and / sqrt(q). With
B = 0 the gradient of A is zero. No weight gets a gradient: one backward pass serves a batch.

EK-FAC influence between records (arXiv:2308.03296) in this projected space:

    K_S = mean G G',  K_A = mean G' G        over records; G [q, r] of one layer
    U_S, U_A: their eigenvectors;   lambda_ij = mean ((U_S' G U_A)_ij)^2
    H^-1/2 G = (U_S' G U_A)_ij / sqrt(lambda_ij + damping mean(lambda))
    influence(d, e) = <H^-1/2 G_d, H^-1/2 G_e> / (|H^-1/2 G_d| |H^-1/2 G_e|)   over all layers

Larger: learning d lowers the loss of e more. The division by the lengths is that of relative
influence (arXiv:2003.11630): without it a few records of large gradient lead every ranking.

Differs from the paper: K_S and K_A come from the gradients of records, not of tokens, and from true
labels, not sampled ones; the space is the projected one.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from expunge.data.tokenization import Encoded
from expunge.methods.base import Trains
from expunge.models.architecture import linear_layers
from expunge.models.batching import by_length, collate
from expunge.models.lora import by_output
from expunge.models.transformer import Network
from expunge.training.forward import chunked_logp

RANK = 8
"""r and q: 64 numbers of each linear layer."""
TOKENS = 1024
"""Padded tokens of one backward pass."""
DAMPING = 0.1
"""In units of the mean eigenvalue, as in the EK-FAC paper."""


class _Watched:
    """One linear layer: its projections, and the last batch's projected inputs."""

    def __init__(self, weight: Tensor, generator: torch.Generator) -> None:
        fan_out, fan_in = weight.shape
        self.down = torch.randn(RANK, fan_in, generator=generator) / RANK**0.5
        self.side = torch.randn(RANK, fan_out, generator=generator) / RANK**0.5
        self.gradient = torch.empty(0)
        """[n, q, r] of the last batch."""

    def forward(self, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Note the input, and ask for the gradient of the output."""
        low = inputs[0].detach() @ self.down.T.to(inputs[0])  # [n, L, r]
        output.register_hook(partial(self._back, low))

    def _back(self, low: Tensor, slope: Tensor) -> None:
        side = slope @ self.side.T.to(slope)  # [n, L, q]
        self.gradient = side.transpose(1, 2) @ low


def record_gradients(
    network: Network,
    records: Sequence[Encoded],
    *,
    pad_id: int,
    seed: int,
    done: Callable[[int], None],
) -> Tensor:
    """Return the projected gradients, [records, layers, q, r] float32.

    Args:
        network: The model; no weight of it changes.
        records: At least one.
        pad_id: Any token id.
        seed: Of the projections.
        done: Called with the number of records that were finished.
    """
    every = Trains(modules=(), first_layer=0, last_layer=len(network.layers) - 1, gaps=True)
    layers = list(linear_layers(network.layers, every).values())
    generator = torch.Generator().manual_seed(seed)
    weights = (by_output(layer, layer.get_parameter("weight")) for layer in layers)
    watched = [_Watched(weight, generator) for weight in weights]
    found = torch.zeros(len(records), len(layers), RANK, RANK)
    network.model.requires_grad_(False)
    embedding = network.model.get_input_embeddings()
    with ExitStack() as stack:
        for layer, each in zip(layers, watched, strict=True):
            handle = layer.register_forward_hook(each.forward)
            stack.callback(handle.remove)
        # Something below the first layer must want a gradient, or there is no way back.
        stack.callback(_wanting(embedding).remove)
        for group in by_length([len(record.ids) for record in records], tokens=TOKENS):
            chosen = [records[index] for index in group]
            batch = collate(chosen, pad_id=pad_id, device=network.device)
            hidden = network.hidden(batch.ids, batch.rows, batch.columns)
            logp = chunked_logp(network, hidden, batch.targets)
            lengths = torch.tensor([len(r.ids) - r.start for r in chosen], device=logp.device)
            (-(logp / lengths[batch.rows]).sum()).backward()
            for place, each in enumerate(watched):
                found[group, place] = each.gradient.float().cpu()
            done(len(group))
    return found


def _wanting(embedding: nn.Module) -> RemovableHandle:
    def ask(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return output.detach().requires_grad_(True)

    return embedding.register_forward_hook(ask)


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
