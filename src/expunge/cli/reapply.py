"""`expunge reapply`: what a run changed, on a later fine-tune of the same base."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from expunge.cli.audit import held_against, run_of
from expunge.cli.ledger_flags import EnterInto
from expunge.cli.options import RequestFlags
from expunge.cli.session import Given
from expunge.errors import GateError, UsageError

if TYPE_CHECKING:
    from expunge.pipeline.reapply import ReappliedUpdate


def reapply(
    run: Annotated[str, Parameter(help="run folder of expunge forget")],
    /,
    *,
    to: Annotated[
        str,
        Parameter(
            env_var="EXPUNGE_REAPPLY_TO", help="model that was made from the original of the run"
        ),
    ],
    out: Annotated[
        Path | None,
        Parameter(
            env_var="EXPUNGE_OUT",
            show_default=False,
            help="folder of the new model and its audit; default beside the run",
        ),
    ] = None,
    ledger: EnterInto = None,
    session: Given,
) -> int:
    """Add what a run changed to a later model, and audit the result at level quick.

    Exits with 3 when the update no longer works on that model.
    """
    console = session.begin()
    folder = _run(run)
    settings = held_against(
        session, (run,), original=None, request=RequestFlags(set=("audit.level=quick",))
    )

    from expunge.models.reference import require_model

    require_model(to, offline=settings.offline)

    from expunge.pipeline.bookkeeping import enter_reapplied, require_ledger
    from expunge.pipeline.reapply import reapply as apply_again
    from expunge.pipeline.reapply import require_free
    from expunge.reporting.claims import passed
    from expunge.reporting.schema import read_results

    place = out or folder.with_name(f"{folder.name}-reapplied-{Path(to).name}")
    require_free(place)
    if ledger is not None:
        require_ledger(ledger)
    own = read_results(folder).verdict
    if not passed(own):
        console.warn(f"{folder} itself did not pass: {own.ruling}")
    found = apply_again(settings, run=folder, to=to, out=place, console=console)
    if ledger is not None:
        entered = ", ".join(enter_reapplied(ledger, folder, found)) or "known"
        console.line("ledger", f"{ledger}   {found.state}: {entered}")
    ended = {"folder": place, "digest": found.digest, "fits": found.fits}
    console.event("done", {**ended, "exit": 0 if found.fits else 3})
    if not found.fits:
        raise _does_not_work(run, to, found)
    console.line("wrote", f"{place}/   model, audit; sha256 {found.digest[:16]}")
    return 0


def _does_not_work(run: str, to: str, found: "ReappliedUpdate") -> GateError:
    return GateError(
        "update-does-not-fit",
        what=f"the update of {run} no longer works on {to}: {found.ruling}",
        why=found.sentence,
        fix=f"forget on the model itself: expunge forget {to} DATA",
    )


def _run(name: str) -> Path:
    found = run_of((name,))
    if found is None:
        raise UsageError(
            "no-run",
            what=f"{name} is not a run folder",
            why="the update is the difference between the model of a run and its original",
            fix="name the folder that expunge forget wrote",
        )
    return found
