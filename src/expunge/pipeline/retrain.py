"""The route `retrain` of `expunge forget`: the training replayed, in the place of unlearning."""

import shutil
from collections.abc import Sequence

import torch

from expunge.models.loading import Loaded, digest_of, load
from expunge.models.saving import save_model
from expunge.models.transformer import Network
from expunge.pipeline.exact import Removal, describe
from expunge.pipeline.finetune import run_finetune
from expunge.pipeline.run_folder import RunFolder
from expunge.pipeline.train import FinishedStage
from expunge.preparation.prepare import Prepared
from expunge.provenance.training_facts import AGAIN, LOG, TrainedRun
from expunge.training.replay_log import LoggedStep, read_log
from expunge.training.train_loop import StepRecord, Trained
from expunge.utils.console import Console


def retrain(
    prepared: Prepared, removal: Removal, original: Loaded, run: RunFolder, console: Console
) -> FinishedStage:
    """Train again without the forget set, give the original the result's weights, and write it.

    Args:
        prepared: The inputs of the run.
        removal: What is trained again, and from where.
        original: The original, whose weights are replaced in place.
        run: The run folder; the training lies in `training/`.
        console: Where to say what happens.
    """
    for label, text in describe(removal):
        console.line(label, text)
    again = run_finetune(removal.job, out=run.path / AGAIN, begin=removal.begin, console=console)
    console.log_to(run.log)
    _take_over(original.network, str(again.folder), prepared)
    if prepared.settings.train.adapter and not removal.job.settings.train.full:
        for file in again.model.iterdir():
            shutil.copyfile(file, run.path / file.name)
    else:
        save_model(original.network.model, original.tokenizer, run.path)
    claim = again.facts.claim
    if claim is not None:
        console.line("claim", f"{claim.level}: {claim.words}")
        console.event("claim", {"level": claim.level, "words": claim.words})
    trained = _trained(again, read_log(again.folder / LOG), removal)
    return FinishedStage(trained=trained, digest=digest_of(original.network))


@torch.no_grad()
def _take_over(network: Network, reference: str, prepared: Prepared) -> None:
    result = load(reference, prepared.source).network.model.state_dict()
    for name, tensor in network.model.state_dict().items():
        tensor.copy_(result[name])


def _trained(again: TrainedRun, log: Sequence[LoggedStep], removal: Removal) -> Trained:
    """Return what the training did, as a run reports it."""
    parts, order = removal.job.parts, removal.job.order
    drawn = (index for draw in order.draws for index in draw.forget)
    return Trained(
        steps=again.facts.steps,
        planned=again.facts.steps,
        stopped="finished",
        curve=tuple(
            StepRecord(step=s.step, values={"nll": s.loss}, gradient_norm=s.gradient_norm, lr=s.lr)
            for s in log
        ),
        readings=(),
        tokens=sum(len(parts[index].ids) for index in drawn),
        seconds=again.facts.seconds,
    )
