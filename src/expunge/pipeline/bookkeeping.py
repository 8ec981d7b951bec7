"""What a command enters into a ledger by itself, where the user names one.

A ledger is named by `--ledger`, or by `EXPUNGE_LEDGER`; without either nothing is entered.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from expunge.errors import InputError
from expunge.ledger.entries import (
    ClaimEntry,
    ClaimState,
    EntryKind,
    ModelEntry,
    ModelOrigin,
    RecheckEntry,
)
from expunge.ledger.import_run import ImportedRun, import_run, import_training, read_run
from expunge.ledger.store import LedgerWriter, own_ledger
from expunge.models.derivation import Change
from expunge.models.loading import Source, choose_device, load
from expunge.models.number_formats import in_precision
from expunge.pipeline.chain_state import RUNS, ChainState
from expunge.pipeline.recheck import Recheck
from expunge.provenance.training_facts import read_trained_run
from expunge.utils.dates import today

_ORIGINS = {
    Change.NONE: ModelOrigin.SAME,
    Change.ROUNDED: ModelOrigin.QUANTISED,
    Change.QUANTISED: ModelOrigin.QUANTISED,
    Change.PRUNED: ModelOrigin.PRUNED,
    Change.MERGED: ModelOrigin.MERGED,
    Change.ADAPTED: ModelOrigin.ADAPTER_ADDED,
    Change.FINE_TUNED: ModelOrigin.FINE_TUNED,
    Change.UNKNOWN: ModelOrigin.UNKNOWN,
}


def require_ledger(path: Path) -> None:
    """Refuse a ledger that could not be written to, before a run that takes long.

    Raises:
        UsageError: As `own_ledger`, or another process writes to it.
        InputError: As `own_ledger`, or the file is damaged or of another key.
    """
    with own_ledger(path).writing():
        pass


def enter_run(path: Path, run: Path) -> ImportedRun:
    """Enter a finished run; one that is there is not entered again.

    Args:
        path: File of the ledger.
        run: The run folder.

    Raises:
        ExpungeError: As `read_run` and `import_run`.
    """
    found = read_run(run)
    with own_ledger(path).writing() as writer:
        return import_run(writer, found, today=today())


def enter_trainings(path: Path, folders: Sequence[Path]) -> list[ImportedRun]:
    """Enter finished trainings; each model is loaded once, for its digest.

    Args:
        path: File of the ledger.
        folders: Folders of `expunge train`.

    Raises:
        ExpungeError: As `read_trained_run`, `load` and `import_training`.
    """
    found = [(read_trained_run(each), _digest(each)) for each in folders]
    with own_ledger(path).writing() as writer:
        return [import_training(writer, trained, model=digest) for trained, digest in found]


def _digest(folder: Path) -> str:
    """Return the digest of what a training made, as runs that start from it know it."""
    source = Source(device=choose_device("cpu"), dtype=torch.float32, offline=True)
    return load(str(folder), in_precision(source, "auto", str(folder))).digest


def enter_recheck(path: Path, found: Recheck) -> tuple[str, ...]:
    """Enter what a recheck says of the claim of its run; the run is entered first.

    Args:
        path: File of the ledger.
        found: The recheck.

    Returns:
        Ids of the new entries.
    """
    run = read_run(Path(found.run))
    with own_ledger(path).writing() as writer:
        known = import_run(writer, run, today=today()).run
        origin = _ORIGINS[found.derivation.change]
        _enter_model(writer, found.digest, origin, parent=found.audited)
        return _enter_states(writer, known, found.digest, origin, ClaimState(found.state.value))


def enter_chain(path: Path, folder: Path, state: ChainState) -> int:
    """Enter the runs of a chain, and each claim that a later request made void.

    Args:
        path: File of the ledger.
        folder: The folder of the chain.
        state: What it has done.

    Returns:
        Number of runs that were not there before.
    """
    runs = {step.number: read_run(folder / RUNS / step.run) for step in state.steps if step.run}
    with own_ledger(path).writing() as writer:
        done = {number: import_run(writer, run, today=today()) for number, run in runs.items()}
        for step in state.steps:
            back = [each.request for each in step.rebounds if each.alarms]
            for number in back:
                if number in done:
                    _enter_states(
                        writer,
                        done[number].run,
                        step.model,
                        ModelOrigin.UNLEARNED,
                        ClaimState.VOID,
                    )
    return sum(each.is_new for each in done.values())


def _enter_model(writer: LedgerWriter, digest: str, made: ModelOrigin, *, parent: str) -> None:
    if digest not in writer.models():
        known = parent if parent in writer.models() and parent != digest else ""
        writer.add(ModelEntry(digest=digest, made=made, parent=known))


def _enter_states(
    writer: LedgerWriter, run: str, model: str, derived: ModelOrigin, result: ClaimState
) -> tuple[str, ...]:
    """Enter the state of every claim of a run, unless the same was entered before."""
    claims = [
        each.id
        for each in writer.current(EntryKind.CLAIM).values()
        if isinstance(each, ClaimEntry) and each.run == run
    ]
    if not claims:
        raise InputError(
            "no-claim",
            what=f"the ledger has no claim of {run}",
            why="a run that has no verdict claims nothing",
            fix="enter a run of expunge forget or expunge audit",
        )
    known = {
        (each.claim, each.model, each.result)
        for each in writer.current(EntryKind.RECHECK).values()
        if isinstance(each, RecheckEntry)
    }
    entry = RecheckEntry(claim="", model=model, derived=derived, result=result, checked=today())
    fresh = [claim for claim in claims if (claim, model, result) not in known]
    return tuple(writer.add(replace(entry, claim=claim)) for claim in fresh)
