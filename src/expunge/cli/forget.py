"""`expunge forget`: plan, forget, audit, report."""

from typing import Annotated

from cyclopts import Parameter

from expunge.cli.flags import Data, Gate, Model, RequestFlags, TrainFlags
from expunge.cli.outcome import conclude
from expunge.cli.plan import show_plan
from expunge.cli.resolved import check_gate, resolve_settings
from expunge.cli.session import Given


def forget(
    model: Model = None,
    /,
    *data: Data,
    request: RequestFlags | None = None,
    train: TrainFlags | None = None,
    gate: Gate = False,
    dry_run: Annotated[
        bool,
        Parameter(
            negative="", show_default=False, env_var="EXPUNGE_DRY_RUN", help="the same as `plan`"
        ),
    ] = False,
    session: Given,
) -> int:
    """Make the model forget the data, audit it, and write a run folder.

    The same command resumes a run that was stopped, and shows one that is finished.
    """
    request, train = request or RequestFlags(), train or TrainFlags()
    if dry_run:
        return show_plan(session, model, data, request=request, train=train, save=None)
    console = session.begin()
    settings = resolve_settings(model, data, request=request, train=train, offline=session.offline)
    check_gate(settings, gate=gate)

    from expunge.forget import forget as forget_data

    return conclude(forget_data(settings, console=console), console=console, gate=gate)
