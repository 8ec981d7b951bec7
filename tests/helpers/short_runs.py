"""Short runs on a tiny model, and a tiny model that knows its records by heart."""

import math

import pytest
import torch

import tiny
from expunge.methods.graddiff import GradDiff
from expunge.methods.npo import NPO
from expunge.models.scoring import score
from expunge.optim import MASKS
from expunge.optim.masks.memflex import MemFlex
from expunge.training.early_stopping import Unseen
from expunge.training.sampler import Streams
from expunge.training.step_gradient import GradientTransforms
from expunge.training.trainer import Trainer, TrainingArgs
from random_records import FORGET, RETAIN, STREAMS

NEVER = Unseen(mean=math.inf, low=math.inf)
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


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Weights of a tiny model that knows forget and retain records by heart."""
    network = tiny.network()
    both = Streams(forget=RETAIN[:1], retain=(*FORGET, *RETAIN))
    run = unlearning(
        network,
        method=GradDiff(gamma=0.0),
        streams=both,
        lr=1e-2,
        steps=60,
        retain_batch=10,
        check_every=30,
        utility_budget=0.99,
    )
    run.run(unseen=NEVER, folder=tmp_path_factory.mktemp("teach"), progress=quiet)
    return state(network)


def knowing(taught):
    network = tiny.network()
    network.model.load_state_dict(taught)
    return network


def probability(network, records) -> float:
    scores = score(network, records, pad_id=2, tokens_per_pass=4096)
    return sum(item.logp.mean().exp().item() for item in scores) / len(records)
