"""What each of several processes does in the tests: run by torchrun, told by a JSON file.

    torchrun --nproc-per-node 2 tests/helpers/distributed_worker.py FOLDER

`FOLDER/jobs.json` lists jobs; the first process writes `FOLDER/NAME.safetensors` and `NAME.json`
for each. The functions here also do a job in a single process, for comparison.
"""

import json
import sys
import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

import tiny
from expunge.methods import build
from expunge.methods.base import Shape
from expunge.models.lora import LoraShape
from expunge.optim import COMBINE, OPTIMISERS, ROBUST
from expunge.training import distributed, forward
from expunge.training.distributed import Team, joined, whole
from expunge.training.early_stopping import Unseen
from expunge.training.forward import TermEvaluator
from expunge.training.fsdp import spread_out
from expunge.training.reference_model import precompute
from expunge.training.step_gradient import GradientTransforms, StepGradient
from expunge.training.train_loop import Multipliers, coefficients
from expunge.training.trainable_weights import adapter, as_they_are, everything
from expunge.training.trainer import Trainer, TrainingArgs
from random_records import DRAW, POOLS, STREAMS

MODELS = {"llama": tiny.llama, "gemma": tiny.gemma}
LORA = LoraShape(rank=2, alpha=4.0)
NEVER = Unseen(mean=float("inf"), low=float("inf"))
Told = tuple[dict[str, Tensor], dict[str, object]]


class Stopped(Exception):  # noqa: N818 - nothing is wrong
    """Ends a run after some step."""


def gradient(job: dict, folder: Path, team: Team) -> Told:
    """The gradient of one step at weights that are not the original's."""
    network = tiny.network(MODELS[job.get("model", "llama")]())
    terms = build(job["method"], job["knobs"]).terms(Shape(layers=2, width=64))
    if job["lora"]:
        weights = adapter(network, LORA, seed=0)
    else:
        weights = everything(network) if team.size == 1 else as_they_are(network)
    references = precompute(network, terms, POOLS, pad_id=2, tokens_per_pass=99)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    if team.size > 1 and not job["lora"]:
        placed = spread_out(network, team, device=torch.device("cpu"))
        network, weights, team = placed.network, placed.weights, placed.team
    watcher = TermEvaluator(
        network=network,
        terms=terms,
        streams=STREAMS,
        references=references,
        pad_id=2,
        share=team.share,
    )
    coefs = coefficients(terms, Multipliers.of(terms), 0.0)
    pull = StepGradient(
        watcher, weights, DRAW, coefs=coefs, tokens_per_pass=job["tokens"], team=team
    )
    with patch.object(forward, "CHUNK", job.get("chunk", forward.CHUNK)):
        found = {name: whole(value) for name, value in pull().items()}
    held = sum(m.to_local().numel() for m in weights.masters.values() if isinstance(m, DTensor))
    return found, {"values": pull.values, "held": held / weights.count}


def run(job: dict, folder: Path, team: Team) -> Told:
    """A short run; `stop` ends it early, and another job with the same `place` goes on."""
    network = tiny.network(tiny.llama(dtype=getattr(torch, job.get("dtype", "float32"))))
    robust, combine = ROBUST.get(job.get("robust", "")), COMBINE.get(job.get("combine", ""))
    wraps = GradientTransforms(
        robust=robust and robust(),
        combine=combine and combine(),
        optimiser=OPTIMISERS[job.get("optimiser", "adamw")](),
        average_last=job.get("average_last", 0.0),
    )
    defaults = {"lr": 1e-3, "batch": 3, "retain_batch": 3, "check_every": 2, "steps": 4}
    unlearning = Trainer(
        method=build(job["method"], job.get("knobs", {})),
        network=network,
        streams=STREAMS,
        options=TrainingArgs(
            lora=LORA if job["lora"] else None, **{**defaults, **job.get("options", {})}
        ),
        pad_id=2,
        wraps=wraps,
    )

    def progress(step: int, text: str) -> None:
        if step == job.get("stop"):
            raise Stopped

    place = folder / job.get("place", job["name"])
    try:
        trained, weights = unlearning.run(unseen=NEVER, folder=place, progress=progress, team=team)
    except Stopped:
        return {}, {}
    unlearning.finish(weights)
    state = {name: value.clone() for name, value in network.model.state_dict().items()}
    return state, {"curve": [asdict(point) for point in trained.curve]}


def broken(job: dict, folder: Path, team: Team) -> Told:
    """The second process fails or hangs while the first one waits for it."""
    if not team.leads:
        if job["fails"]:
            raise ValueError("a mistake in one process")
        time.sleep(600)
    team.wait()
    return {}, {}


JOBS = {"gradient": gradient, "run": run, "broken": broken}


def do(job: dict, folder: Path, team: Team) -> Told:
    """Do one job."""
    return JOBS[job["kind"]](job, folder, team)


def read(name: str, folder: Path) -> Told:
    """What the first of several processes wrote."""
    return load_file(folder / f"{name}.safetensors"), json.loads(
        (folder / f"{name}.json").read_text()
    )


def main(folder: Path) -> None:
    jobs = json.loads((folder / "jobs.json").read_text())
    if jobs[0]["kind"] == "broken":
        distributed.STALL = timedelta(seconds=5)
    with joined(torch.device("cpu")) as team:
        for job in jobs:
            tensors, facts = do(job, folder, team)
            if team.leads:
                tensors = {name: value.contiguous().clone() for name, value in tensors.items()}
                save_file(tensors, folder / f"{job['name']}.safetensors")
                (folder / f"{job['name']}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
