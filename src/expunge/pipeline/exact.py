"""Exact removal: `expunge forget RUN --exact erase.jsonl`.

The run that never had the records is well defined: it is `expunge train` by the same recipe on the
data without them. Up to the first step that used one of them both runs did the same, because order
and rates depend on each record alone (`ContentSampler`). So it is enough to train again from the
last checkpoint before that step. The result equals that run byte for byte: model, replay log and
optimiser.

With the records go those that were made from them, or repeat them (`data.closure`). On another
stack (versions, processor, threads) checkpoints of the old one would mix two kinds of rounding:
there it is trained again from the base model, and the result equals a run on the new stack.

The route `retrain` of `expunge forget` replays a training in the same way, in the place of
unlearning.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from expunge.config.settings import FinetuneSettings
from expunge.data.closure import Closure, closure_of, require_unstated
from expunge.data.readers import read
from expunge.data.records import Record
from expunge.errors import InputError, UsageError, named_in_part
from expunge.models.loading import Loaded, digest_of, load
from expunge.models.saving import save_model
from expunge.models.transformer import Network
from expunge.pipeline.finetune import Begin, kept_points, run_finetune, stack_of, tokens_mark
from expunge.pipeline.publish import masker
from expunge.pipeline.run_folder import RunFolder
from expunge.pipeline.train import FinishedStage
from expunge.preparation.finetune import FinetuneJob, prepare_finetune
from expunge.preparation.prepare import Prepared
from expunge.provenance.keys import key_path, operator_key
from expunge.provenance.training_facts import (
    AGAIN,
    STEP_LOG,
    ReplayClaim,
    TrainedRun,
    key_mark,
    read_trained_run,
    record_mark,
)
from expunge.training.replay_log import LoggedStep, read_log, record_marks
from expunge.training.train_loop import StepRecord, Trained
from expunge.utils.console import Console, SilentConsole
from expunge.utils.io import AnyPath, sync_folder, synced

_MOST_NAMED = 5
_E4 = "the records were not used in training this model: it equals, byte for byte, a run without"
_E1 = "trained from the base model without the records, by a recipe that was named and not logged"
_OTHER_SEED = 1000
"""Added to the seed of a recipe: reference models take the seeds that follow it."""
_E3 = "the records were not used in training this model: what had seen them was replaced"


@dataclass(frozen=True, kw_only=True, slots=True)
class Removal:
    """What a training is without some of its records; nothing is trained yet."""

    closure: Closure
    job: FinetuneJob
    """The training on what is kept."""
    begin: Begin
    first_use: int
    """The first step of the old run that used a record of the closure."""

    @property
    def steps(self) -> int:
        """Steps of the new run."""
        return len(self.job.order.draws)

    @property
    def begun_at(self) -> int:
        """The step from which it is trained again."""
        return 0 if self.begin.claim is None else self.begin.claim.begun_at


def forget_exactly(
    run: AnyPath,
    erase: Sequence[str],
    *,
    out: AnyPath | None = None,
    offline: bool = False,
    console: Console | None = None,
) -> TrainedRun:
    """Train a run of `expunge train` again without some records, from their first use on.

    Args:
        run: Folder of the run, or of an earlier exact removal from it.
        erase: Records to erase: files, folders, Hub ids.
        out: Folder of the result; default `runs/DATE-train-ID`.
        offline: Never use the network.
        console: Where to say what happens; silent by default.

    Returns:
        The new run; `facts.claim` says what may be claimed of it.

    Raises:
        InputError: Log, data, base model or records to erase do not fit together.
        UsageError: Nothing would be left to train on, or another operator's key is in use.

    Example:
        >>> forget_exactly(Path("no-such-run"), ["erase.jsonl"])
        Traceback (most recent call last):
            ...
        expunge.errors.InputError: error[no-training]: no-such-run is not the folder of...
    """
    run = Path(run)
    out = None if out is None else Path(out)
    console = console or SilentConsole()
    removal = plan_removal(read_trained_run(run), erase, offline=offline)
    for label, text in describe(removal):
        console.line(label, text)
    result = run_finetune(removal.job, out=out, begin=removal.begin, console=console)
    claim = result.facts.claim
    if claim is not None:
        console.line("claim", f"{claim.level}: {claim.words}")
    for name, digest in result.facts.files.items():
        if name.endswith(".safetensors"):
            console.line("digest", f"{digest}  {name}")
    return result


def plan_removal(run: TrainedRun, erase: Sequence[str], *, offline: bool = False) -> Removal:
    """Find out what goes, what is kept, and from where to train again; no weight is loaded.

    Raises:
        InputError: As `forget_exactly`.
        UsageError: As `forget_exactly`.
    """
    key = _key_of(run)
    log = read_log(run.folder / STEP_LOG)
    trained = trained_records(run, log, key, offline=offline)
    wanted = read(erase, offline=offline).records
    there = [r for r in wanted if record_mark(r, key) not in run.facts.removed]
    if not there:
        raise UsageError(
            "erased-before",
            what=f"all {len(wanted)} records to erase were taken out of {run.folder} before",
            why="they, or what they were made from, stood in an earlier request",
            fix="nothing is left to do for them",
        )
    closure, kept = _parted(there, trained, run.settings)
    old = prepare_finetune(run.settings, trained, offline=offline)
    job = prepare_finetune(run.settings, kept, offline=offline)
    first = old.order.first_use(old.parts_of(closure.all))
    same = stack_of(old) == run.facts.stack and tokens_mark(old, key) == run.facts.tokens
    points = kept_points(run.folder) if same else {}
    at = max((step for step in points if step <= first), default=0)
    exact = job.source.device.type == "cpu"
    claim = ReplayClaim(
        level="E4" if exact else "E3",
        words=_E4 if exact else _E3,
        begun_at=at,
        erased=len(closure.named),
        derived=len(closure.derived),
    )
    begin = Begin(
        base=run.facts.base,
        point=points.get(at),
        removed=run.facts.removed,
        dropped=tuple(trained[index] for index in sorted(closure.all)),
        claim=claim,
    )
    return Removal(closure=closure, job=job, begin=begin, first_use=first)


def removal_by_recipe(
    recipe: FinetuneSettings, erase: Sequence[str], *, offline: bool = False
) -> Removal:
    """Plan to train again what another program trained: from the base, with a seed of its own.

    The result is a fresh model that never saw the records, not the one that a replay gives.

    Args:
        recipe: Base model, data and settings of that training.
        erase: Records to erase: files, folders, Hub ids.
        offline: Never use the network.

    Raises:
        InputError: Data or records to erase do not fit together.
        UsageError: Nothing would be left to train on.
    """
    trained = read(recipe.data, offline=offline).records
    wanted = read(erase, offline=offline).records
    closure, kept = _parted(wanted, trained, recipe)
    train = recipe.train.model_copy(update={"seed": recipe.train.seed + _OTHER_SEED})
    job = prepare_finetune(recipe.model_copy(update={"train": train}), kept, offline=offline)
    claim = ReplayClaim(
        level="E1" if train.full else "E3",
        words=_E1 if train.full else _E3,
        begun_at=0,
        erased=len(closure.named),
        derived=len(closure.derived),
    )
    dropped = tuple(trained[index] for index in sorted(closure.all))
    return Removal(closure=closure, job=job, begin=Begin(dropped=dropped, claim=claim), first_use=0)


def _parted(
    wanted: Sequence[Record], trained: Sequence[Record], recipe: FinetuneSettings
) -> tuple[Closure, list[Record]]:
    """Part the records of a training into those that go and those that are kept."""
    closure = closure_of(wanted, trained)
    kept = [record for index, record in enumerate(trained) if index not in closure.all]
    if not kept:
        raise UsageError(
            "nothing-left",
            what=f"all {len(trained)} records of the training would be erased",
            why="what is left is the base model itself",
            fix=f"use the base model, {recipe.model}, or erase fewer records",
        )
    require_unstated(wanted, kept)
    return closure, kept


def trained_records(
    run: TrainedRun, log: Sequence[LoggedStep], key: bytes, *, offline: bool = False
) -> tuple[Record, ...]:
    """Read the records that a run was trained on; those that it left out may be there or not.

    Raises:
        InputError: `data-incomplete`, `data-changed`: the data are not those of the log.
    """
    used = record_marks(log)
    found = {record_mark(r, key): r for r in read(run.settings.data, offline=offline).records}
    missing = used - found.keys()
    where = ", ".join(run.settings.data)
    if missing:
        raise InputError(
            "data-incomplete",
            what=f"{len(missing)} of {len(used)} records of the replay log are not in {where}",
            why="a training cannot be repeated on records that are missing or were changed",
            fix="restore the data as it was; what is to go is named by the file of what to erase",
        )
    strange = [r for mark, r in found.items() if mark not in used and mark not in run.facts.removed]
    if strange:
        places = [record.source or record.id for record in strange]
        raise InputError(
            "data-changed",
            what=f"{len(strange)} records in {where} were never used by {run.folder}: "
            + named_in_part(places, most=_MOST_NAMED),
            why="a training with further records is another one",
            fix="take them out of the data, or train anew with `expunge train`",
        )
    return tuple(record for mark, record in found.items() if mark in used)


def describe(removal: Removal) -> list[tuple[str, str]]:
    """Return what a removal does, as label and text."""
    closure, job = removal.closure, removal.job
    derived = f", {len(closure.derived)} made from them or like them" if closure.derived else ""
    start = "the base model" if not removal.begun_at else f"step {removal.begun_at}"
    return [
        ("erase", f"{len(closure.named)} records{derived}; {len(job.records)} are kept"),
        (
            "replay",
            f"first used at step {removal.first_use}; trained again from {start}: "
            f"{removal.steps - removal.begun_at} of {removal.steps} steps",
        ),
    ]


def _key_of(run: TrainedRun) -> bytes:
    key = operator_key(key_path(), run=run.folder)
    if key_mark(key) != run.facts.key:
        raise UsageError(
            "other-key",
            what=f"{run.folder} was trained under another operator's key",
            why="its log names records by fingerprints under that key, which no other key matches",
            fix="set EXPUNGE_KEY_FILE to the key that was in use then",
        )
    return key


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
    console.log_to(run.log, mask=masker(prepared).label)
    _take_over(original.network, str(again.folder), prepared)
    if prepared.settings.train.adapter and not removal.job.settings.train.full:
        run.model.mkdir(exist_ok=True)
        for file in again.model.iterdir():
            synced(shutil.copyfile(file, run.model / file.name))
        sync_folder(run.model)
    else:
        save_model(original.network.model, original.tokenizer, run.model)
    claim = again.facts.claim
    if claim is not None:
        console.line("claim", f"{claim.level}: {claim.words}")
        console.event("claim", {"level": claim.level, "words": claim.words})
    trained = _trained(again, read_log(again.folder / STEP_LOG), removal)
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
