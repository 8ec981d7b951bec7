"""`expunge recheck`: whether the claims of a run still hold for a model made from it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from expunge.cli.audit import held_against, run_of
from expunge.cli.ledger_flags import EnterInto
from expunge.cli.options import RequestFlags
from expunge.cli.session import Given, Session
from expunge.errors import ExpungeError, GateError, UsageError
from expunge.utils.dates import seconds_of
from expunge.utils.file_names import SETTINGS

Run = Annotated[
    str, Parameter(env_var="EXPUNGE_AGAINST", help="run folder whose claims are checked")
]
Related = Annotated[
    tuple[str, ...],
    Parameter(
        negative="",
        consume_multiple=True,
        env_var="EXPUNGE_RELATED",
        help="models that may have been merged in; the original always is one of them",
    ),
]
EveryClaim = Annotated[
    bool,
    Parameter(
        negative="",
        env_var="EXPUNGE_GATE",
        show_default=False,
        help="exit with 3 unless every claim is valid",
    ),
]
Asked = Annotated[
    Literal["quick", "standard", "full"],
    Parameter(env_var="EXPUNGE_LEVEL", help="how much to ask of a model that changed"),
]
Record = Annotated[
    Path | None,
    Parameter(
        env_var="EXPUNGE_OUT",
        show_default=False,
        help="folder of the record and the audit; default: beside the run",
    ),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class MonitorFlags:
    """Asking again and again, instead of one audit."""

    monitor: Annotated[
        bool,
        Parameter(
            negative="",
            env_var="EXPUNGE_MONITOR",
            show_default=False,
            help="only ask the facts of the run again, keep no text; exit with 3 once more of them"
            " came back than chance explains. MODEL may be http://localhost:PORT/v1",
        ),
    ] = False
    every: Annotated[
        str,
        Parameter(
            env_var="EXPUNGE_EVERY",
            show_default=False,
            help="with --monitor: ask this often, such as 12h or 1d, until stopped; default: once",
        ),
    ] = ""
    times: Annotated[
        int | None,
        Parameter(
            env_var="EXPUNGE_TIMES", show_default=False, help="with --every: stop after so many"
        ),
    ] = None
    served: Annotated[
        str,
        Parameter(
            env_var="EXPUNGE_SERVED",
            show_default=False,
            help="with --monitor: name of the model at the address; default: the only one there",
        ),
    ] = ""
    remote: Annotated[
        bool,
        Parameter(
            negative="",
            env_var="EXPUNGE_REMOTE",
            show_default=False,
            help="with --monitor: the questions may be sent to another machine",
        ),
    ] = False


def recheck(
    model: Annotated[
        str, Parameter(help="the model to check: Hub id, folder, BASE+ADAPTER, or an address")
    ],
    /,
    *,
    against: Run,
    related: Related = (),
    level: Asked = "quick",
    out: Record = None,
    gate: EveryClaim = False,
    ledger: EnterInto = None,
    watch: MonitorFlags | None = None,
    session: Given,
) -> int:
    """Say which claims of a run are valid, pending or void for a model made from it."""
    watch = watch or MonitorFlags()
    _require_fit(model, watch, related=related, offline=session.offline)
    console = session.begin()
    run = run_of((against,))
    if run is None:
        raise UsageError(
            "no-run",
            what=f"{against} is not a run folder",
            why="claims are those of a finished run, with its settings and its evidence",
            fix="name the folder that expunge forget or expunge audit wrote",
        )
    if watch.monitor:
        return _monitor(session, model, run=run, watch=watch, out=out, ledger=ledger)
    chosen = RequestFlags(set=(f"audit.level={level}",))
    settings = held_against(session, (against,), original=None, request=chosen)

    from expunge.models.reference import require_model

    for each in (model, *related):
        require_model(each, offline=settings.offline)

    from expunge.pipeline.bookkeeping import enter_recheck, require_ledger
    from expunge.pipeline.recheck import recheck as check_again

    if ledger is not None:
        require_ledger(ledger)
    found = check_again(settings, model=model, run=run, related=related, out=out, console=console)
    if ledger is not None:
        console.line("ledger", f"{ledger}   {', '.join(enter_recheck(ledger, found)) or 'known'}")
    failed = gate and found.state != "valid"
    console.event(
        "done", {"folder": found.folder, "state": found.state, "exit": 3 if failed else 0}
    )
    if failed:
        worst = next(claim for claim in found.claims if claim.state is found.state)
        raise GateError(
            "claim-not-valid",
            what=f"a claim of {run} is {found.state} for {model}: {worst.question}",
            why=worst.reason,
            fix=f"keep the audited model in use, or forget again: expunge forget {model} DATA",
        )
    return 0


def _require_fit(
    model: str, watch: MonitorFlags, *, related: tuple[str, ...], offline: bool
) -> None:
    """Refuse flags that mean nothing together."""
    from expunge.models.endpoint import is_endpoint, require_local

    address = is_endpoint(model)
    if not watch.monitor:
        given = next((n for n in ("every", "times", "served", "remote") if getattr(watch, n)), "")
        if address or given:
            raise UsageError(
                "no-monitor",
                what=f"{model if address else '--' + given} belongs to --monitor",
                why="a recheck compares weights, which a server does not show"
                if address
                else "a recheck audits a model once",
                fix="add --monitor",
            )
        return
    if related:
        raise UsageError(
            "monitor-alone",
            what="--monitor was given with --related",
            why="a monitor compares no weights",
            fix="leave it out, or recheck without --monitor",
        )
    if watch.times is not None and (watch.times < 1 or not watch.every):
        raise UsageError(
            "invalid-value",
            what=f"--times {watch.times} cannot be",
            why="it is 1 or more, and belongs to --every",
            fix="write for example --every 1d --times 30",
        )
    if address and (offline or not watch.remote):
        require_local(model)


def _monitor(
    session: Session,
    model: str,
    *,
    run: Path,
    watch: MonitorFlags,
    out: Path | None,
    ledger: Path | None,
) -> int:
    """Ask the facts of a run again; an alarm is entered into the ledger."""
    every = seconds_of(watch.every, "--every") if watch.every else 0.0

    from expunge.cli.options import TrainFlags
    from expunge.cli.settings import resolve_settings
    from expunge.models.endpoint import is_endpoint
    from expunge.models.reference import require_model

    settings = resolve_settings(
        None,
        (),
        request=RequestFlags(config=run / SETTINGS),
        train=TrainFlags(),
        offline=session.offline,
    )
    if not is_endpoint(model):
        require_model(model, offline=settings.offline)

    from expunge.pipeline.bookkeeping import require_ledger
    from expunge.pipeline.monitor import MonitorSchedule, monitor, monitor_folder

    if ledger is not None:
        require_ledger(ledger)
    place = out or monitor_folder(run, model)
    try:
        done = monitor(
            settings,
            target=model,
            run=run,
            served=watch.served,
            schedule=MonitorSchedule(times=watch.times if every else 1, every=every),
            out=place,
            console=session.console,
        )
    except GateError:
        if ledger is not None:
            _enter_alarm(ledger, run, place, session)
        raise
    session.console.event("done", {"rounds": len(done.rounds), "stated": len(done.said), "exit": 0})
    return 0


def _enter_alarm(ledger: Path, run: Path, place: Path, session: Session) -> None:
    """Enter an alarm; what keeps it out of the ledger is said, and hides no alarm."""
    from expunge.pipeline.bookkeeping import enter_alarm
    from expunge.pipeline.monitor import read_monitor

    try:
        state = read_monitor(place)
        entered = () if state is None else enter_alarm(ledger, run, state)
    except ExpungeError as error:
        session.console.warn(f"the alarm is not in {ledger}: {error.what}")
    else:
        session.console.line("ledger", f"{ledger}   void: {', '.join(entered) or 'known'}")
