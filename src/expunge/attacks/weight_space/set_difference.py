"""Neurons of the MLPs: how much each of them matters, and a model without some of them.

Set-difference pruning: silence the neurons that matter on the facts and not elsewhere.

    D = top p of neurons on the other half of the facts  \\  top q of neurons on retain records

Protocol: importance of MLP neurons by `neurons.importance`; D is silenced, facts of the tested half
are asked for plainly, for each (p, q). Budget: two calibration passes, one answer a fact and pair.
If unlearning was written into a few neurons of its own, the knowledge beneath comes back
(arXiv:2402.05162, used against unlearning in arXiv:2409.18025). Neurons rather than single weights.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from expunge.attacks.base import Attempt, Unmet
from expunge.attacks.finetuning.related_text import without_facts
from expunge.attacks.target import Target
from expunge.data.records import Record
from expunge.data.tokenization import Encoded
from expunge.evidence.context import AttackMeta
from expunge.models.batching import by_length, collate
from expunge.models.transformer import Network


def last_matrices(network: Network) -> list[nn.Linear | Conv1D]:
    """Return the matrix of each block's MLP that writes to the residual stream.

    Raises:
        Unmet: The blocks have no module named `mlp` that ends in a linear layer, or it holds
            experts, most of whose neurons lie elsewhere.
    """
    width = network.model.config.get_text_config().hidden_size
    found: list[nn.Linear | Conv1D] = []
    for block in network.layers:
        mlp = dict(block.named_children()).get("mlp", nn.Identity())
        matrices = [each for each in mlp.modules() if isinstance(each, nn.Linear | Conv1D)]
        # The last matrix beside experts may be a gate, or that of the shared expert alone.
        plain = matrices and "experts" not in dict(mlp.named_children())
        if not plain or _inputs(matrices[-1]).shape[1] != width:
            raise Unmet("the blocks have no plain MLP")
        found.append(matrices[-1])
    return found


@torch.no_grad()
def importance(
    network: Network, records: Sequence[Encoded], *, pad_id: int, tokens_per_pass: int
) -> list[Tensor]:
    """Return how much each neuron writes on the scored tokens of records, per block.

        mean_t |h_j(t)| * ||W_out[:, j]||    (Wanda's score, arXiv:2306.11695, summed over outputs)

    Shape [neurons] each.
    """
    matrices = last_matrices(network)
    sums = [torch.zeros(_inputs(matrix).shape[0], device=network.device) for matrix in matrices]
    wanted: dict[str, tuple[Tensor, Tensor]] = {}

    def counting(total: Tensor):  # noqa: ANN202 - a hook
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            rows, columns = wanted["now"]
            total.add_(inputs[0][rows, columns].abs().float().sum(0))

        return hook

    with ExitStack() as stack:
        for matrix, total in zip(matrices, sums, strict=True):
            handle = matrix.register_forward_pre_hook(counting(total))
            stack.callback(handle.remove)
        for group in by_length([len(record.ids) for record in records], tokens=tokens_per_pass):
            batch = collate(
                [records[index] for index in group], pad_id=pad_id, device=network.device
            )
            wanted["now"] = batch.rows, batch.columns
            network.hidden(batch.ids, batch.rows, batch.columns)
    scored = sum(len(record.ids) - record.start for record in records)
    return [
        total / scored * _inputs(matrix).float().norm(dim=1)
        for matrix, total in zip(matrices, sums, strict=True)
    ]


@contextmanager
def dropped(network: Network, neurons: Mapping[int, Tensor]) -> Generator[None]:
    """Silence neurons for a while: block index to a boolean mask [neurons]."""
    matrices = last_matrices(network)
    kept: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for block, mask in neurons.items():
                weight = matrices[block].weight
                kept.append((weight, weight.detach().clone()))
                _inputs(matrices[block])[mask] = 0
        yield
    finally:
        with torch.no_grad():
            for weight, original in kept:
                weight.copy_(original)


def _inputs(matrix: nn.Linear | Conv1D) -> Tensor:
    """Return the weights with one row per input, [neurons, d]: a view."""
    weight = matrix.weight.detach()
    return weight if isinstance(matrix, Conv1D) else weight.T


@dataclass(frozen=True, kw_only=True, slots=True)
class SetDifference:
    """Neurons of the facts only."""

    meta: ClassVar[AttackMeta] = AttackMeta(
        family="weights",
        access="T3",
        learns=True,
        union=False,
        needs="two facts; retain records; blocks with a plain MLP",
    )

    pairs: tuple[tuple[float, float], ...] = ((0.02, 0.02), (0.05, 0.05))
    """(p, q): shares of the neurons of each block."""
    most: int = 64
    """Retain records that are looked at."""

    @property
    def name(self) -> str:
        """Return `set-difference`."""
        return "set-difference"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Silence and ask."""
        kept = without_facts(target.retain, (*used, *tested))[: self.most]
        if not kept or not used:
            raise Unmet("it takes retain records and facts to compare neurons on")
        on_facts, elsewhere = (_importance(target, records) for records in (used, kept))
        found: list[Attempt] = []
        for first, second in self.pairs:
            masks = {
                block: top(facts, first) & ~top(others, second)
                for block, (facts, others) in enumerate(zip(on_facts, elsewhere, strict=True))
            }
            with dropped(target.network, masks):
                found += target.asks(tested, f"{first:.0%} without {second:.0%}")
        return found


def top(values: Tensor, share: float) -> Tensor:
    """Return a mask of the largest values, by share, at least one."""
    count = max(1, round(share * len(values)))
    mask = torch.zeros(len(values), dtype=torch.bool, device=values.device)
    mask[values.topk(count).indices] = True
    return mask


def _importance(target: Target, records: Sequence[Record]) -> list[Tensor]:
    encoded = [target.encoder.encode(record) for record in records]
    target.meter.tokens += sum(len(record.ids) for record in encoded)
    return importance(
        target.network,
        encoded,
        pad_id=target.encoder.pad_id,
        tokens_per_pass=target.tokens_per_pass,
    )
