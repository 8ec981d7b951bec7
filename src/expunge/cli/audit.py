"""`expunge audit`: judge any model against a request, a run or data."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from expunge.cli.ledger_flags import EnterInto
from expunge.cli.options import Gate, GateFiles, RequestFlags, TrainFlags
from expunge.cli.session import Given, Session
from expunge.cli.settings import (
    check_gate,
    check_ledger,
    conclude,
    enter,
    folder_of,
    resolve_settings,
    two_request_files,
)
from expunge.errors import UsageError
from expunge.utils.file_names import SETTINGS
from expunge.utils.io import require_no_special_files

if TYPE_CHECKING:
    from expunge.config.settings import Settings


def audit(
    model: Annotated[str, Parameter(help="the model to judge: Hub id, folder or GGUF file")],
    /,
    *,
    against: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            consume_multiple=True,
            show_default=False,
            env_var="EXPUNGE_AGAINST",
            help="run folder, request file (.toml), or the data that should be forgotten",
        ),
    ] = (),
    canaries: Annotated[
        Path | None,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_CANARIES",
            help="file of `expunge plant`: say what the model knows of the canaries, and no more",
        ),
    ] = None,
    original: Annotated[
        str | None,
        Parameter(
            show_default=False, help="the model before forgetting, with data [env: EXPUNGE_MODEL]"
        ),
    ] = None,
    request: RequestFlags | None = None,
    gate: Gate = False,
    gates: GateFiles = (),
    ledger: EnterInto = None,
    session: Given,
) -> int:
    """Judge whether a model has forgotten: forgetting, privacy, robustness, utility, locality."""
    console = session.begin()
    if canaries is not None:
        return _canaries(model, canaries, against, session)
    _require_against(against)
    settings = held_against(session, against, original=original, request=request)
    check_gate(settings, gate=gate, files=gates)

    from expunge.models.reference import require_model

    require_model(model, offline=settings.offline)
    check_ledger(ledger)

    from expunge.pipeline.forget import audit as audit_model

    outcome = audit_model(settings, model=model, against=run_of(against), console=console)
    enter(ledger, outcome.folder, console)
    return conclude(
        outcome,
        console=console,
        gate=gate,
        promise=settings.request.threat_model,
        allow_scar=settings.request.margins.allow_scar,
        files=gates,
    )


def _require_against(against: tuple[str, ...]) -> None:
    if not against:
        raise UsageError(
            "no-against",
            what="nothing says what the model should have forgotten",
            why="a model is judged against a request, a run or data",
            fix="add --against runs/latest, or --canaries FILE for planted canaries",
        )


def _canaries(model: str, file: Path, against: tuple[str, ...], session: Session) -> int:
    """Say what a model knows of planted canaries."""
    if against:
        raise UsageError(
            "canaries-alone",
            what="--canaries and --against were both given",
            why="canaries are judged by their own controls, and by no request",
            fix="run expunge audit twice, once with each",
        )

    from expunge.data.canaries import read_canaries
    from expunge.models.reference import require_model

    read_canaries(file)
    require_model(model, offline=session.offline)

    from expunge.pipeline.canaries import audit_canaries

    found = audit_canaries(model, file, offline=session.offline, console=session.console)
    for each in found:
        session.console.event("canaries", {**asdict(each), "known": each.known, "weak": each.weak})
    session.console.event("done", {"epsilon": found[0].epsilon, "exit": 0})
    return 0


def held_against(
    session: Session,
    against: tuple[str, ...],
    *,
    original: str | None,
    request: RequestFlags | None,
) -> "Settings":
    """Return the settings of a request that a model is held against, with a folder of its own.

    Raises:
        UsageError: Two request files were given.
    """
    request = request or RequestFlags()
    config = _config_of(against)
    if config is not None:
        if request.config is not None:
            raise two_request_files(f"--against {against[0]}", request.config, "an audit")
        request = replace(request, config=config)
    data = () if config is not None else against
    from expunge.pipeline.early_checks import check_data, check_settings

    check_data(data)
    settings = resolve_settings(
        original, data, request=request, train=TrainFlags(), offline=session.offline
    )
    check_settings(settings)
    # An audit has a folder of its own: that of the run it is held against stays as it is.
    out = folder_of(request)
    return settings.model_copy(update={"out": None if out is None else str(out)})


def run_of(against: tuple[str, ...]) -> Path | None:
    """Return the run folder that a model is held against; None where it is something else.

    Raises:
        UsageError: It holds a link.
    """
    from expunge.models.reference import run_of_model

    paths = [run_of_model(Path(each)) for each in against]
    if len(paths) != 1 or not (paths[0] / SETTINGS).is_file():
        return None
    require_no_special_files(paths[0])
    return paths[0]


def _config_of(against: tuple[str, ...]) -> Path | None:
    if len(against) == 1 and against[0].endswith(".toml"):
        return Path(against[0])
    run = run_of(against)
    return None if run is None else run / SETTINGS
