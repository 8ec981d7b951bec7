"""A tiny model that knows its records by heart, and short unlearning runs on it."""

import math
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import tiny
from expunge.methods.base import Distribution, Shape
from expunge.methods.graddiff import GradDiff
from expunge.models.scoring import score
from expunge.models.transformer import Network
from expunge.training.early_stopping import Unseen
from expunge.training.forward import TermEvaluator
from expunge.training.reference_model import precompute
from expunge.training.reinforced_model import reinforced_states
from expunge.training.sampler import BatchIndices, Streams
from expunge.training.train_loop import Multipliers, coefficients
from expunge.training.trainer import Trainer, TrainingArgs
from random_records import FORGET, POOLS, RETAIN, STREAMS

SHAPE = Shape(layers=2, width=64)
NEVER = Unseen(mean=math.inf, low=math.inf)


def observer(case, network, streams=STREAMS, *, tokens_per_pass=4096) -> TermEvaluator:
    terms = case.build().terms(SHAPE)
    how = {"pad_id": 2, "tokens_per_pass": tokens_per_pass}
    wanted = any(isinstance(term, Distribution) and term.reinforced for term in terms)
    known = reinforced_states(network, FORGET, FORGET, seed=0, **how) if wanted else None
    references = precompute(network, terms, POOLS, reinforced=known, **how)
    return TermEvaluator(
        network=network,
        terms=terms,
        streams=streams,
        references=references,
        pad_id=2,
        unseen=Unseen(mean=5.0, low=4.0, alike={FORGET[0].record: 2.0}),
    )


def gradient(
    watcher: TermEvaluator, draw: BatchIndices, tokens_per_pass: int
) -> dict[str, torch.Tensor]:
    model = watcher.network.model
    model.requires_grad_(True)
    model.zero_grad(set_to_none=True)
    for part in watcher.step_loss(draw, coefs=coefs(watcher), tokens_per_pass=tokens_per_pass):
        part.loss.backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def coefs(watcher: TermEvaluator) -> dict[str, float]:
    return coefficients(watcher.terms, Multipliers.of(watcher.terms), 0.0)


def unlearning(network, method, *, lora=None, streams=STREAMS, **options) -> Trainer:
    defaults = {"lr": 1e-3, "batch": 2, "retain_batch": 3, "check_every": 2}
    return Trainer(
        method=method,
        network=network,
        streams=streams,
        options=TrainingArgs(lora=lora, **{**defaults, **options}),
        pad_id=2,
    )


def probability(network, records) -> float:
    scores = score(network, records, pad_id=2, tokens_per_pass=4096)
    return sum(item.logp.mean().exp().item() for item in scores) / len(records)


def taught() -> Network:
    """A tiny model that knows forget and retain records by heart."""
    network = tiny.network()
    network.model.load_state_dict(known())
    return network


@cache
def known() -> dict[str, torch.Tensor]:
    """The weights of that model; it is taught once in a process."""
    network = tiny.network()
    both = Streams(forget=RETAIN[:1], retain=(*FORGET, *RETAIN))
    run = unlearning(
        network,
        GradDiff(gamma=0.0),
        streams=both,
        lr=1e-2,
        steps=60,
        retain_batch=10,
        check_every=30,
        utility_budget=0.99,
    )
    with TemporaryDirectory() as folder:
        run.run(unseen=NEVER, folder=Path(folder), progress=lambda step, text: None)
    return {name: value.clone() for name, value in network.model.state_dict().items()}
