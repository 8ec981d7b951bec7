"""`expunge plan`: what a run would do and cost."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.options import Data, Model, RequestFlags, TrainFlags
from expunge.cli.session import Given, Session
from expunge.cli.settings import resolve_settings, sentences_as_files
from expunge.cli.terminal import confirmed
from expunge.errors import UsageError
from expunge.utils.io import write_text


def plan(
    model: Model = None,
    /,
    *data: Data,
    request: RequestFlags | None = None,
    train: TrainFlags | None = None,
    save: Annotated[
        Path | None,
        Parameter(
            env_var="EXPUNGE_SAVE", help="write the request, filled in, to this TOML file and stop"
        ),
    ] = None,
    session: Given,
) -> int:
    """Say what forgetting would do and cost; no weight is loaded or moved."""
    return show_plan(
        session,
        model,
        data,
        request=request or RequestFlags(),
        train=train or TrainFlags(),
        save=save,
    )


def _require_free(path: Path, text: str) -> None:
    """Ask before a file with another content is overwritten; where nobody can answer, refuse.

    Raises:
        UsageError: `file-exists`: the answer is not yes, or there is no terminal to ask at.
    """
    if not path.exists() or (path.is_file() and path.read_bytes() == text.encode()):
        return
    if path.is_file() and confirmed(f"overwrite {path}?"):
        return
    raise UsageError(
        "file-exists",
        what=f"{path} exists; nothing was written",
        why="what is in it would be lost",
        fix="name another file with --save, or remove this one",
    )


def show_plan(
    session: Session,
    model: str | None,
    data: tuple[str, ...],
    *,
    request: RequestFlags,
    train: TrainFlags,
    save: Path | None,
) -> int:
    """Print the plan of a run, and keep its settings in `save` if given; return 0."""
    console = session.begin()
    data = sentences_as_files(model, data, session, answered=False)
    settings = resolve_settings(model, data, request=request, train=train, offline=session.offline)

    from expunge.config.resolve import to_toml
    from expunge.pipeline.early_checks import check_settings

    if save is not None:
        _require_free(save, to_toml(settings))
    check_settings(settings, weights=False)

    from expunge.pipeline.forget import plan as plan_run

    planned = plan_run(settings, console=console)
    for label, text in planned.lines():
        console.line(label, text)
    console.event("plan", planned.to_dict())
    if save is not None:
        write_text(save, to_toml(settings))
        console.line("wrote", str(save))
        console.line("next", f"expunge forget {save}")
    return 0
