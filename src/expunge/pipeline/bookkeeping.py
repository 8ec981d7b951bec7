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
from expunge.pipeline.monitor import MonitorState
from expunge.pipeline.reapply import AUDIT, ReappliedUpdate
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


def enter_reapplied(path: Path, run: Path, found: ReappliedUpdate) -> tuple[str, ...]:
    """Enter what a re-applied update makes of the claims of its run.

    The run and the audit of the new model are entered first. The claims hold for the new model
    where its audit passes; what was found for the later model stays as it is.

    Args:
        path: File of the ledger.
        run: The folder of the run.
        found: The model to which its update was added.

    Returns:
        Ids of the new rechecks.

    Raises:
        ExpungeError: As `read_run` and `import_run`; `no-claim`: the run claims nothing.
    """
    own, audited = read_run(run), read_run(found.folder / AUDIT)
    original, later, new = own.original, audited.original, audited.judged
    with own_ledger(path).writing() as writer:
        known = import_run(writer, own, today=today())
        _enter_model(writer, later, _ORIGINS[found.change], parent=original)
        _enter_model(writer, new, ModelOrigin.REAPPLIED, parent=later)
        import_run(writer, audited, request=known.request, today=today())
        return _enter_states(writer, known.run, new, ModelOrigin.REAPPLIED, found.state)


def enter_alarm(path: Path, run: Path, found: MonitorState) -> tuple[str, ...]:
    """Make the claims of a run void for what a monitor found to state its facts.

    A quiet monitor enters nothing: that a model does not state the facts is less than was claimed.
    A server shows no digest, so its entry names no model.

    Args:
        path: File of the ledger.
        run: The folder of the run.
        found: The state of the monitor.

    Returns:
        Ids of the new rechecks.

    Raises:
        ExpungeError: As `read_run` and `import_run`; `no-claim`: the run claims nothing.
    """
    if not found.alarms:
        return ()
    own, digest = read_run(run), found.rounds[-1].digest
    with own_ledger(path).writing() as writer:
        known = import_run(writer, own, today=today()).run
        origin = ModelOrigin.SAME if digest == own.judged else ModelOrigin.UNKNOWN
        if digest:
            _enter_model(writer, digest, ModelOrigin.UNKNOWN, parent="")
        return _enter_states(writer, known, digest, origin, ClaimState.VOID)


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
    """Enter the state of every claim of a run, unless it is what was last entered."""
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
    last = {
        (each.claim, each.model): each.result
        for each in writer.current(EntryKind.RECHECK).values()
        if isinstance(each, RecheckEntry)
    }
    entry = RecheckEntry(claim="", model=model, derived=derived, result=result, checked=today())
    fresh = [claim for claim in claims if last.get((claim, model)) is not result]
    return tuple(writer.add(replace(entry, claim=claim)) for claim in fresh)
