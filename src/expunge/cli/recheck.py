"""`expunge recheck`: whether the claims of a run still hold for a model made from it."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from expunge.cli.audit import held_against, run_of
from expunge.cli.ledger_flags import EnterInto
from expunge.cli.options import RequestFlags
from expunge.cli.session import Given
from expunge.errors import GateError, UsageError

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


def recheck(
    model: Annotated[str, Parameter(help="the model to check: Hub id, folder or BASE+ADAPTER")],
    /,
    *,
    against: Run,
    related: Related = (),
    level: Asked = "quick",
    out: Record = None,
    gate: EveryClaim = False,
    ledger: EnterInto = None,
    session: Given,
) -> int:
    """Say which claims of a run are valid, pending or void for a model made from it."""
    console = session.begin()
    run = run_of((against,))
    if run is None:
        raise UsageError(
            "no-run",
            what=f"{against} is not a run folder",
            why="claims are those of a finished run, with its settings and its evidence",
            fix="name the folder that expunge forget or expunge audit wrote",
        )
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
