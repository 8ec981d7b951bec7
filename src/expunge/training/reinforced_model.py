"""Memorising: teach a throw-away adapter a set of records by heart.

Several methods start from a model that knows the forget set better than the original does: its
distribution shows what is specific to the set (WHP), its displacement can be subtracted (task
vectors), its gradients point where relearning would go (RepSelect).
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.data.tokenization import Encoded
from expunge.methods.edits.base import memorised_at_once, memorising_steps
from expunge.models.batching import by_length
from expunge.models.lora import LoraShape, attach, detach
from expunge.models.transformer import Network
from expunge.training.activation_cache import Key
from expunge.training.forward import chunked_logp
from expunge.training.reference_model import final_states
from expunge.training.sampler import Sampler

Tell = Callable[[float, str], None]
"""Told how much of the work is done, 0 to 1, and a short text."""


def _quietly(_share: float, _text: str) -> None:
    """Tell nobody how far it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReinforcedTraining:
    """How hard to memorise: steps of AdamW on the mean NLL per token, of up to 64 records."""

    steps: int = 10
    lr: float = 1e-3
    rank: int = 8
    seed: int = 0


def reinforce(
    network: Network,
    records: Sequence[Encoded],
    how: ReinforcedTraining,
    *,
    pad_id: int,
    tokens_per_pass: int,
    progress: Tell = _quietly,
) -> None:
    """Attach an adapter to the model and train it on the records; it stays attached."""
    attach(network, LoraShape(rank=how.rank, alpha=2.0 * how.rank), seed=how.seed)
    trained = [parameter for parameter in network.model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=how.lr, weight_decay=0.0)
    order = Sampler(
        forget=len(records),
        retain=0,
        forget_batch=memorised_at_once(len(records)),
        retain_batch=0,
        seed=how.seed,
    )
    steps = memorising_steps(len(records), how.steps)
    for step in range(steps):
        progress(step / steps, f"learning by heart, step {step + 1} of {steps}")
        drawn = [records[index] for index in sorted(order.draw(step).forget)]
        scored = sum(len(record.ids) - record.start for record in drawn)
        optimiser.zero_grad(set_to_none=True)
        for group in by_length([len(record.ids) for record in drawn], tokens=tokens_per_pass):
            chosen = [drawn[index] for index in group]
            batch = network.batch(chosen, pad_id=pad_id)
            hidden = network.hidden(batch.ids, batch.rows, batch.columns, layout=batch.layout)
            (-chunked_logp(network, hidden, batch.targets).sum() / scored).backward()
        optimiser.step()


@contextmanager
def memorised(
    network: Network,
    records: Sequence[Encoded],
    how: ReinforcedTraining,
    *,
    pad_id: int,
    tokens_per_pass: int,
    progress: Tell = _quietly,
) -> Generator[None]:
    """Let the model wear an adapter that knows the records; afterwards it is as it was."""
    trained = {
        name for name, parameter in network.model.named_parameters() if parameter.requires_grad
    }
    reinforce(
        network, records, how, pad_id=pad_id, tokens_per_pass=tokens_per_pass, progress=progress
    )
    try:
        yield
    finally:
        detach(network.model)
        for name, parameter in network.model.named_parameters():
            parameter.requires_grad_(name in trained)


def reinforced_states(
    network: Network,
    forget: Sequence[Encoded],
    records: Sequence[Encoded],
    *,
    seed: int,
    pad_id: int,
    tokens_per_pass: int,
) -> dict[Key, Tensor]:
    """Return last hidden states of the model after memorising `forget`; the model is unchanged."""
    how = ReinforcedTraining(seed=seed)
    with memorised(network, forget, how, pad_id=pad_id, tokens_per_pass=tokens_per_pass):
        return final_states(network, records, pad_id=pad_id, tokens_per_pass=tokens_per_pass)
