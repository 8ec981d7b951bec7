"""`expunge forget`: plan, forget, audit, report."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.ledger_flags import EnterInto
from expunge.cli.options import Data, Gate, GateFiles, Model, RequestFlags, TrainFlags
from expunge.cli.plan import show_plan
from expunge.cli.session import Given, Session
from expunge.cli.settings import (
    check_gate,
    check_ledger,
    conclude,
    enter,
    folder_of,
    resolve_settings,
    sentences_as_files,
)
from expunge.errors import UsageError


def forget(
    model: Model = None,
    /,
    *data: Data,
    request: RequestFlags | None = None,
    train: TrainFlags | None = None,
    gate: Gate = False,
    gates: GateFiles = (),
    dry_run: Annotated[
        bool,
        Parameter(
            negative="", show_default=False, env_var="EXPUNGE_DRY_RUN", help="the same as `plan`"
        ),
    ] = False,
    exact: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            show_default=False,
            consume_multiple=False,
            env_var="EXPUNGE_EXACT",
            help="MODEL is a folder of `expunge train`: train it again without these records, from"
            " their first use on; repeatable",
        ),
    ] = (),
    ledger: EnterInto = None,
    session: Given,
) -> int:
    """Make the model forget the data, audit it, and write a run folder.

    The same command resumes a run that was stopped, and shows one that is finished.
    """
    request, train = request or RequestFlags(), train or TrainFlags()
    if exact:
        return _exactly(model, data, exact, request, session)
    if dry_run:
        return show_plan(session, model, data, request=request, train=train, save=None)
    console = session.begin()
    data = sentences_as_files(model, data, session)
    settings = resolve_settings(model, data, request=request, train=train, offline=session.offline)
    check_gate(settings, gate=gate, files=gates)

    from expunge.pipeline.early_checks import check_settings

    check_settings(settings)
    check_ledger(ledger)

    from expunge.pipeline.forget import forget as forget_data

    outcome, promise = forget_data(settings, console=console), settings.request.threat_model
    enter(ledger, outcome.folder, console)
    allow_scar = settings.request.margins.allow_scar
    return conclude(
        outcome,
        console=console,
        gate=gate,
        promise=promise,
        allow_scar=allow_scar,
        files=gates,
    )


def _exactly(
    model: str | None,
    data: tuple[str, ...],
    exact: tuple[str, ...],
    request: RequestFlags,
    session: Session,
) -> int:
    """Replay a training without some records: nothing is chosen, so there are no settings."""
    if model is None or data:
        raise UsageError(
            "exact-alone",
            what="--exact needs the folder of a training, and no other data",
            why="it names itself what is erased",
            fix="expunge forget RUN --exact erase.jsonl",
        )
    console = session.begin()

    from expunge.pipeline.early_checks import check_data
    from expunge.provenance.training_facts import read_trained_run

    read_trained_run(Path(model))
    check_data(exact)

    from expunge.pipeline.exact import forget_exactly

    run = forget_exactly(
        Path(model), exact, out=folder_of(request), offline=session.offline, console=console
    )
    claim = None if run.facts.claim is None else run.facts.claim.level
    files = run.facts.files
    console.event("done", {"folder": run.folder, "claim": claim, "files": files, "exit": 0})
    against = f"--against {' '.join(exact)} --original {model} --goal removal"
    console.line("next", f"expunge audit {run.folder} {against}")
    return 0
