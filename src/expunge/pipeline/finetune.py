"""Fine-tuning that can be undone: `expunge train`.

What is trained on a record must be separable from what is not. So the order of records and the
learning rate of every step follow from what the records say (`ContentSampler`), the start from the
seed, and nothing from their number, from the clock or from random draws on the way. On a CPU the
same command, also after a kill, ends in the same bytes.

The folder that it writes is described in `provenance.training_facts`.
"""

import json
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors import safe_open

from expunge.config.settings import FinetuneSettings, TrackerName
from expunge.data.readers import read
from expunge.data.records import Record
from expunge.errors import InputError
from expunge.models.loading import Loaded, load
from expunge.models.lora import save_adapter
from expunge.models.saving import save_model
from expunge.pipeline.publish import versions
from expunge.pipeline.run_folder import RunFolder, interrupted, open_run
from expunge.pipeline.tracking import scalars, tracked
from expunge.preparation.finetune import FinetuneJob, complete, prepare_finetune
from expunge.provenance.keys import fingerprint, key_path, operator_key
from expunge.provenance.training_facts import (
    POINTS,
    RECIPE,
    SCHEMA,
    STEP_LOG,
    ReplayClaim,
    TrainedRun,
    TrainingFacts,
    is_trained_run,
    key_mark,
    read_trained_run,
    record_mark,
    write_facts,
)
from expunge.trackers.base import TrackedRun
from expunge.training.checkpoint import readable
from expunge.training.early_stopping import Unseen
from expunge.training.replay_log import logged, write_log
from expunge.training.train_loop import StepReport, Trained
from expunge.training.trainable_weights import TrainableWeights
from expunge.utils.console import Bar, Console, SilentConsole
from expunge.utils.file_names import MODEL
from expunge.utils.io import AnyPath, sha256_file, sha256_json, write_text
from expunge.utils.system import processor

RUNS = Path("runs")
_UNSEEN = Unseen(mean=float("inf"), low=float("inf"))
_LAST = "last.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class Begin:
    """Where a training begins that repeats an earlier one without some records."""

    base: str = ""
    """Digest that the base model must have; empty: any."""
    point: Path | None = None
    """A kept checkpoint; None: the base model."""
    removed: tuple[str, ...] = ()
    """Fingerprints of records that the data may hold and that earlier requests took out."""
    dropped: tuple[Record, ...] = ()
    """Records that this training leaves out."""
    claim: ReplayClaim | None = None


def train(
    settings: FinetuneSettings,
    *,
    out: AnyPath | None = None,
    offline: bool = False,
    tracker: TrackerName = "none",
    console: Console | None = None,
) -> TrainedRun:
    """Fine-tune a model, so that records can be taken out again bit for bit.

    The same call goes on where a killed one stopped, and does nothing where one has ended.

    Args:
        settings: Base model, data and recipe.
        out: Folder of the result; default `runs/DATE-train-ID`.
        offline: Never use the network.
        tracker: Experiment tracker that gets the numbers of every step as well.
        console: Where to say what happens; silent by default.

    Raises:
        ExpungeError: An input is missing or malformed, or the folder holds something else.

    Example:
        >>> from expunge.config.settings import FinetuneSettings
        >>> FinetuneSettings(model="base", data=("facts.jsonl",)).train.seed
        0
    """
    out = None if out is None else Path(out)
    settings = complete(settings)
    records = read(settings.data, offline=offline).records
    job = prepare_finetune(settings, records, offline=offline)
    return run_finetune(
        job, out=out, begin=Begin(), tracker=tracker, console=console or SilentConsole()
    )


def run_finetune(
    job: FinetuneJob,
    *,
    out: Path | None,
    begin: Begin,
    console: Console,
    tracker: TrackerName = "none",
) -> TrainedRun:
    """Train what was prepared, and write the folder; see `train`.

    Args:
        job: What to train.
        out: Folder of the result; default `runs/DATE-train-ID`.
        begin: Where to begin.
        console: Where to say what happens.
        tracker: Experiment tracker that gets the numbers of every step as well.
    """
    base = load(job.settings.model, job.source)
    if begin.base and base.digest != begin.base:
        raise InputError(
            "base-changed",
            what=f"{base.name} is not the model that the training started from",
            why="its weights have another digest, and the same steps from it make another model",
            fix="restore the base model; the digest is `base` in training.json",
        )
    run_id = _identity(job, base, begin)
    with open_run(out, root=RUNS, run_id=run_id, method="train", now=datetime.now(UTC)) as run:
        if is_trained_run(run.path):
            console.line("done", f"{run.path} is finished; nothing to do")
            return read_trained_run(run.path)
        key = operator_key(key_path(), run=run.path)
        console.log_to(run.log)
        write_text(run.path / RECIPE, job.settings.to_toml())
        _introduce(job, base, console)
        try:
            with tracked(tracker, _to_track(job, run), console) as conclude:
                trained = _train(job, base, run, begin, console)
                conclude({"train/seconds": trained.seconds}, "")
        except KeyboardInterrupt as interrupt:
            raise interrupted(run) from interrupt
        steps = logged(trained, job.order, _marks(job, key), seed=job.settings.train.seed)
        write_log(run.path / STEP_LOG, steps)
        facts = _facts(job, base, run, begin, trained, key)
        console.end_log()
        run.prune()
        write_facts(run.path, facts)
        console.line("wrote", f"{run.path}/   {MODEL}, {RECIPE}, {STEP_LOG}, {POINTS}")
        return TrainedRun(folder=run.path, settings=job.settings, facts=facts)


def stack_of(job: FinetuneJob) -> dict[str, str]:
    """Return what the bytes of a result depend on beside data and recipe."""
    return {
        **versions(),
        "device": job.source.device.type,
        "precision": job.source.precision,
        "processor": processor(),
        "threads": str(torch.get_num_threads()),
    }


def tokens_mark(job: FinetuneJob, key: bytes) -> str:
    """Return a keyed digest of everything as tokens: chat templates may write today's date."""
    return fingerprint(sha256_json([[part.ids, part.start] for part in job.parts]), key)


def kept_points(folder: Path) -> dict[int, Path]:
    """Return the checkpoints that a training has kept, by the number of steps done."""
    return {int(path.stem): path for path in sorted((folder / POINTS).glob("*.safetensors"))}


def _identity(job: FinetuneJob, base: Loaded, begin: Begin) -> str:
    """Return eight hex digits that are equal exactly when two trainings would do the same."""
    recipe = job.settings.model_dump(mode="json", exclude={"data", "model"})
    data = [[part.ids, part.start] for part in job.parts]
    dropped = [[record.prompt, record.completion] for record in begin.dropped]
    return sha256_json([recipe, data, base.digest, dropped, begin.removed, versions()])[:8]


def _introduce(job: FinetuneJob, base: Loaded, console: Console) -> None:
    train, order = job.settings.train, job.order
    what = "all weights" if train.full else f"LoRA rank {train.rank}"
    console.line("model", f"{base.name}, {job.source.precision} on {job.source.device.type}")
    console.line("data", f"{len(job.records)} records, {sum(len(p.ids) for p in job.parts)} tokens")
    epochs = order.draws[-1].epoch + 1
    console.line("trains", f"{what}, {epochs} passes, {len(order.draws)} steps")


def _train(
    job: FinetuneJob, base: Loaded, run: RunFolder, begin: Begin, console: Console
) -> Trained:
    """Train, keep checkpoints of the first pass, and write the model."""
    trainer = job.trainer(base.network)
    last = run.checkpoints / _LAST
    if begin.point is not None and not last.is_file():
        last.parent.mkdir(exist_ok=True)
        for step, point in kept_points(begin.point.parent.parent).items():
            if step <= int(begin.point.stem):
                _keep(point, run.path / POINTS, step)
        shutil.copyfile(begin.point, last)
    started = _steps_done(last)
    if started in job.kept_steps:  # killed between the two
        _keep(last, run.path / POINTS, started)
    with console.progress("train", total=trainer.total - started, unit="steps") as bar:
        done = _Progress(bar, started, job.kept_steps, last, run.path / POINTS)
        trained, weights = trainer.run(unseen=_UNSEEN, folder=run.checkpoints, progress=done.step)
    console.line("trained", f"{trained.steps} steps, {trained.seconds:.0f} s")
    _write_model(job, base, weights, run.path / MODEL)
    return trained


def _to_track(job: FinetuneJob, run: RunFolder) -> TrackedRun:
    train = job.settings.train.model_dump(mode="json")
    return TrackedRun(
        name=f"train-{run.run_id}",
        settings={"precision": job.settings.precision, **scalars("train", train)},
        offline=job.source.offline,
        first_step=_steps_done(run.checkpoints / _LAST),
    )


class _Progress:
    """Moves a bar, and keeps the checkpoints of some steps."""

    def __init__(
        self, bar: Bar, started: int, kept: frozenset[int], last: Path, points: Path
    ) -> None:
        self._bar = bar
        self._done = started
        self._kept = kept
        self._last = last
        self._points = points

    def step(self, step: int, report: StepReport) -> None:
        if step in self._kept:
            _keep(self._last, self._points, step)
        self._bar.advance(step - self._done, detail=report.text, values=report.values)
        self._done = step


def _keep(checkpoint: Path, points: Path, step: int) -> None:
    """Keep a checkpoint: as a second name of the file, which is never written to again."""
    points.mkdir(mode=0o700, exist_ok=True)
    target = points / f"{step:06}.safetensors"
    if target.exists():
        return
    try:
        os.link(checkpoint, target)
    except OSError:  # a file system without second names
        shutil.copyfile(checkpoint, target)


def _steps_done(last: Path) -> int:
    if not last.is_file():
        return 0
    with readable(last), safe_open(str(last), framework="pt") as file:
        about: dict[str, str] = file.metadata()
        return int(json.loads(about["state"])["step"])


def _write_model(job: FinetuneJob, base: Loaded, weights: TrainableWeights, folder: Path) -> None:
    model = base.network.model
    folder.mkdir(exist_ok=True)
    if weights.lora is not None:
        save_adapter(model, weights.lora, weights.masters, base=job.settings.model, folder=folder)
        return
    weights.release()
    model.requires_grad_(False)
    save_model(model, base.tokenizer, folder)


def _marks(job: FinetuneJob, key: bytes) -> list[str]:
    """Return the keyed fingerprint of each part; of a passage in parts each adds its number."""
    whole = [record_mark(record, key) for record in job.records]
    marks: list[str] = []
    for part, owner in zip(job.parts, job.owners, strict=True):
        number = part.record.removeprefix(job.records[owner].id)
        marks.append(whole[owner] + number)
    return marks


def _facts(
    job: FinetuneJob, base: Loaded, run: RunFolder, begin: Begin, trained: Trained, key: bytes
) -> TrainingFacts:
    files = sorted(path for path in (run.path / MODEL).iterdir() if path.is_file())
    return TrainingFacts(
        schema=SCHEMA,
        base=base.digest,
        files={path.name: sha256_file(path) for path in files},
        records=len(job.records),
        steps=trained.steps,
        tokens=tokens_mark(job, key),
        stack=stack_of(job),
        key=key_mark(key),
        removed=tuple(sorted({*begin.removed, *(record_mark(r, key) for r in begin.dropped)})),
        claim=begin.claim,
        seconds=round(trained.seconds, 1),
    )
