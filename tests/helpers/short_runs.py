"""Short runs on a tiny model."""

import torch

from expunge.methods.npo import NPO
from expunge.optim import MASKS
from expunge.optim.masks.memflex import MemFlex
from expunge.training.step_gradient import GradientTransforms
from expunge.training.trainer import Trainer, TrainingArgs
from random_records import FORGET, STREAMS

# A model that knows its records by heart has gradients far below the default threshold.
MADE = {name: kind() for name, kind in MASKS.items()} | {"memflex": MemFlex(size=1e-5)}


def quiet(step: int, text: str) -> None:
    """Say nothing."""


def unlearning(network, *, method=None, wraps=None, streams=STREAMS, **options) -> Trainer:
    defaults = {"lora": None, "lr": 1e-3, "batch": 2, "retain_batch": 3, "check_every": 2}
    return Trainer(
        method=method or NPO(),
        network=network,
        streams=streams,
        options=TrainingArgs(**{**defaults, **options}),
        pad_id=2,
        wraps=wraps or GradientTransforms(),
    )


def state(network) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.model.state_dict().items()}


def logits(network) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([network.model(input_ids=torch.tensor([r.ids])).logits[0] for r in FORGET])
