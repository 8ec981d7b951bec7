"""Reference models: `expunge gold`, retrained models (golds) that never saw a forget set.

A gold is trained by the recorded recipe on the data without the forget closure, with a seed of its
own: another order, another start. Several of them say how far models differ that never saw the
records, which is what an unlearned model is judged against. Every gold is a training folder: killed
ones go on, finished ones are not repeated.

    RUN/gold/ID/seed-1/    a gold of the forget set ID, beside the run that it belongs to
    RUN/gold/ID/half-0/    a model that saw a random half of forget set and unseen records

The halves come in pairs that part all records, so half of them saw each record. They are the
references of RMIA and DUCI.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from expunge.config.settings import LARGEST_SEED
from expunge.data.readers import read
from expunge.data.records import Record
from expunge.data.splits import Scope
from expunge.errors import UsageError
from expunge.evals.comparison import HalfTrained
from expunge.models.loading import Source, files_digest
from expunge.models.reference import is_adapter, split_reference
from expunge.pipeline.exact import Removal, plan_removal
from expunge.pipeline.finetune import Begin, run_finetune
from expunge.preparation.finetune import FinetuneJob, prepare_finetune
from expunge.provenance.keys import existing_key, key_path, operator_key
from expunge.provenance.training_facts import (
    STEP_LOG,
    ReplayClaim,
    TrainedRun,
    key_mark,
    read_trained_run,
    record_mark,
    training_of,
)
from expunge.training.replay_log import read_log, record_marks
from expunge.utils.console import Console, SilentConsole
from expunge.utils.file_names import TRAINED
from expunge.utils.io import AnyPath, sha256_json

GOLDS = "gold"
"""Folder beside a training in which its golds lie."""
FEWEST_HALVES = 4
"""Each half-trained model is judged by the others, its counterpart left out."""
_WORDS = "trained without the records, with a seed of its own"


def gold(
    run: AnyPath,
    forget: Sequence[str],
    *,
    seeds: int = 3,
    halves: int = 0,
    unseen: Sequence[str] = (),
    out: AnyPath | None = None,
    offline: bool = False,
    console: Console | None = None,
) -> tuple[TrainedRun, ...]:
    """Train reference models that never saw a forget set, by the recipe of a run.

    Args:
        run: Folder of `expunge train`.
        forget: The forget set: files, folders, Hub ids.
        seeds: How many models; their seeds follow that of the run.
        halves: Train so many models on random halves instead; an even number, 4 or more.
        unseen: With `halves`: records like the forget set that the run never saw.
        out: Folder of the models; default `gold/ID` in the run, where `forget` and `audit` find
            them.
        offline: Never use the network.
        console: Where to say what happens; silent by default.

    Raises:
        InputError: As `expunge.pipeline.exact.forget_exactly`.
        UsageError: As there.

    Example:
        >>> gold(Path("no-such-run"), ["erase.jsonl"])
        Traceback (most recent call last):
            ...
        expunge.errors.InputError: error[no-training]: no-such-run is not the folder of...
    """
    console, run = console or SilentConsole(), Path(run)
    trained = read_trained_run(run)
    first = trained.settings.train.seed + 1
    if not 1 <= seeds <= LARGEST_SEED - first:
        raise UsageError(
            "none-of-it",
            what=f"--seeds {seeds} is no number of models",
            why=f"a gold is one model for each seed from {first} to {LARGEST_SEED}",
            fix="set --seeds to 1 or more; 3 is usual",
        )
    removal = plan_removal(trained, forget, offline=offline)
    folder = Path(out) if out else run / GOLDS / _forget_id(removal, run)
    if halves or unseen:
        _require_halves(halves, unseen)
        others = read(unseen, offline=offline).records
        console.line("gold", f"{halves} models on random halves, into {folder}")
        return tuple(
            _half(removal, part, first + index, folder / f"half-{index}", offline, console)
            for index, part in enumerate(_parts(removal, others, halves, first))
        )
    console.line("gold", f"{seeds} models on {len(removal.job.records)} records, into {folder}")
    return tuple(
        _one(removal, seed, folder / f"seed-{seed}", offline=offline, console=console)
        for seed in range(first, first + seeds)
    )


def golds_beside(model: str, forget: Sequence[Record]) -> tuple[str, ...]:
    """Return the golds that lie beside a model and never saw any of the forget records.

    Without the operator's key, or with another one, none is found: whether a gold saw the records
    could not be told.

    Args:
        model: Reference of the original; golds of `BASE+ADAPTER` lie over the same base.
        forget: What is to be forgotten.
    """
    key, trainings = _beside(model)
    if not trainings:
        return ()
    wanted = {record_mark(record, key) for record in forget}
    base = "" if training_of(model) else f"{split_reference(model)[0]}+"
    return tuple(
        base + str(each.model if base else each.folder)
        for each in trainings
        if wanted <= set(each.facts.removed)
    )


def training_behind(model: str) -> Path | None:
    """Return the training of a model, or of the adapter in `BASE+ADAPTER`; None without one.

    Args:
        model: Reference of a model.

    Raises:
        InputError: As `expunge.models.reference.split_reference`.
    """
    if (own := training_of(model)) is not None:
        return own
    adapter = split_reference(model)[1]
    return None if adapter is None else training_of(str(adapter))


def halves_beside(model: str, scope: Scope) -> tuple[HalfTrained, ...]:
    """Return the models beside an original that saw a part of its forget and holdout records.

    None is found without holdout records, or without the operator's key.

    Args:
        model: Reference of the original.
        scope: What is to be forgotten, and records that the original never saw.
    """
    key, trainings = _beside(model) if scope.holdout else (b"", ())
    if not trainings:
        return ()
    marks = {record.id: record_mark(record, key) for record in (*scope.forget, *scope.holdout)}
    found: list[HalfTrained] = []
    for each in trainings:
        log = record_marks(read_log(each.folder / STEP_LOG))
        saw = tuple(name for name, mark in marks.items() if mark in log)
        if 0 < len(saw) < len(marks):
            found.append(HalfTrained(reference=str(each.folder), saw=saw))
    return tuple(found)


def _beside(model: str) -> tuple[bytes, tuple[TrainedRun, ...]]:
    """Return the operator's key, and the reference models beside a model that were marked by it.

    None are found without the key: which records they saw could not be told.
    """
    run = training_behind(model)
    key = None if run is None else existing_key(run)
    if run is None or key is None:
        return b"", ()
    found = (read_trained_run(facts.parent) for facts in sorted((run / GOLDS).rglob(TRAINED)))
    return key, tuple(each for each in found if each.facts.key == key_mark(key))


def replaced(model: str, forget: Sequence[Record]) -> bool:
    """Tell whether a model was trained again without all of these records (claim E4 or E3)."""
    run = training_of(model)
    key = None if run is None else existing_key(run)
    if run is None or key is None:
        return False
    facts = read_trained_run(run).facts
    wanted = {record_mark(record, key) for record in forget}
    return facts.claim is not None and wanted <= set(facts.removed)


def over_clean_base(model: str, *, original: str, golds: Sequence[str], source: Source) -> bool:
    """Tell whether a model is an adapter over weights that by a gold's word never saw the data.

    A gold never saw the forget set, so what lies beneath its adapter did not see it either. An
    adapter over those weights hides nothing: taking it off leaves a model without the data. The
    weights of the original are never clean, whatever else lies over them.

    Args:
        model: Reference of the judged model.
        original: Reference of the original.
        golds: References of the golds.
        source: Permissions.

    Raises:
        InputError: As `expunge.models.reference.split_reference`.
    """
    if not golds or not is_adapter(model):
        return False
    digest = cache(partial(files_digest, source=source))
    clean = {digest(split_reference(gold)[0]) for gold in golds} - {digest(original)}
    return digest(split_reference(model)[0]) in clean


def _one(
    removal: Removal, seed: int, folder: Path, *, offline: bool, console: Console
) -> TrainedRun:
    job = _reseeded(removal, removal.job.records, seed, offline=offline)
    claim = ReplayClaim(
        level="E3",
        words=_WORDS,
        begun_at=0,
        erased=len(removal.closure.named),
        derived=len(removal.closure.derived),
    )
    begin = replace(removal.begin, point=None, claim=claim)
    return run_finetune(job, out=folder, begin=begin, console=console)


def _reseeded(
    removal: Removal, records: Sequence[Record], seed: int, *, offline: bool
) -> FinetuneJob:
    """Prepare a training of the same recipe on some records, with a seed of its own."""
    settings = removal.job.settings
    train = settings.train.model_copy(update={"seed": seed})
    return prepare_finetune(settings.model_copy(update={"train": train}), records, offline=offline)


def _require_halves(halves: int, unseen: Sequence[str]) -> None:
    if halves < FEWEST_HALVES or halves % 2 or not unseen:
        given = f"--halves {halves}" + ("" if unseen else " without --unseen")
        raise UsageError(
            "no-halves",
            what=f"{given} makes no half-trained models",
            why="they come in pairs that part forget set and unseen records, and two pairs are the"
            " fewest that tell what a model saw",
            fix="set --halves to an even number from 4 on, such as 8, and name --unseen records",
        )


def _parts(
    removal: Removal, unseen: Sequence[Record], halves: int, seed: int
) -> Iterator[tuple[Record, ...]]:
    """Yield the records that each model sees beside what is kept; two in a row part them all."""
    records = [*removal.begin.dropped, *unseen]
    for pair in range(halves // 2):
        chosen = random.Random(f"{seed} half {pair}").sample(range(len(records)), len(records) // 2)
        inside = frozenset(chosen)
        yield tuple(r for index, r in enumerate(records) if index in inside)
        yield tuple(r for index, r in enumerate(records) if index not in inside)


def _half(
    removal: Removal,
    part: Sequence[Record],
    seed: int,
    folder: Path,
    offline: bool,
    console: Console,
) -> TrainedRun:
    job = _reseeded(removal, (*removal.job.records, *part), seed, offline=offline)
    begin = Begin(base=removal.begin.base, removed=removal.begin.removed)
    return run_finetune(job, out=folder, begin=begin, console=console)


def _forget_id(removal: Removal, run: Path) -> str:
    key = operator_key(key_path(), run=run)
    marks = sorted(record_mark(record, key) for record in removal.begin.dropped)
    return sha256_json([marks, removal.begin.removed])[:8]
