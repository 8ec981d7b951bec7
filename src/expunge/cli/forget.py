"""`expunge forget`: plan, forget, audit, report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from expunge.cli.options import Data, Gate, Model, RequestFlags, TrainFlags
from expunge.cli.plan import show_plan
from expunge.cli.session import Given
from expunge.cli.settings import check_gate, conclude, resolve_settings
from expunge.cli.tune import search

if TYPE_CHECKING:
    from expunge.config.settings import Settings
    from expunge.utils.console import Console

AUTO = "auto"
"""The method that stands for a search."""


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
    if settings.method.name == AUTO:
        settings = _tuned(settings, console)

    from expunge.pipeline.forget import forget as forget_data

    outcome, promise = forget_data(settings, console=console), settings.request.threat_model
    allow_scar = settings.request.margins.allow_scar
    return conclude(outcome, console=console, gate=gate, promise=promise, allow_scar=allow_scar)


def _tuned(settings: "Settings", console: "Console") -> "Settings":
    """Search the method; the knobs of `auto` are the flags of `expunge tune`."""
    from expunge.benchmarking.tune import Budget
    from expunge.config.settings import MethodSettings
    from expunge.utils.registry import build_named

    budget = build_named({AUTO: Budget}, AUTO, settings.method.knobs, what="method")
    settings = settings.model_copy(update={"method": MethodSettings(name=AUTO)})
    found = search(settings, Path("tune") / settings.request.id, budget=budget, console=console)
    return found.settings.model_copy(update={"out": settings.out})
