"""`expunge tune`: find settings, or a method, that erase most and keep what must stay."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from expunge.cli.cluster import ClusterFlags, runner_of
from expunge.cli.options import Data, Model, RequestFlags, TrainFlags
from expunge.cli.session import Given
from expunge.cli.settings import folder_of, resolve_settings

if TYPE_CHECKING:
    from expunge.benchmarking.sweep import Runner
    from expunge.benchmarking.tune import Budget, Tuned
    from expunge.config.settings import Settings
    from expunge.utils.console import Console


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class TuneFlags:
    """How long to look, and what must not be lost."""

    trials: Annotated[int, Parameter(help="settings tried in all", env_var="EXPUNGE_TRIALS")] = 16
    minutes: Annotated[
        float,
        Parameter(
            show_default=False,
            help="computing time of all runs; none is begun after it",
            env_var="EXPUNGE_MINUTES",
        ),
    ] = math.inf
    floor: Annotated[
        float,
        Parameter(
            help="least standing on utility and locality, 0 to 1; 0.75 = at the margins",
            env_var="EXPUNGE_FLOOR",
        ),
    ] = 0.75
    search: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            show_default=False,
            consume_multiple=False,
            help="search this method; repeatable; default --method, which may be auto",
            env_var="EXPUNGE_SEARCH",
        ),
    ] = ()


def tune(
    model: Model = None,
    /,
    *data: Data,
    request: RequestFlags | None = None,
    train: TrainFlags | None = None,
    budget: TuneFlags | None = None,
    cluster: ClusterFlags | None = None,
    session: Given,
) -> int:
    """Search method and settings by the audit; the same command goes on where it stopped.

    Writes the search, its leaderboard and `chosen.toml`, which `expunge forget` runs, into --out.
    """
    console = session.begin()
    request = request or RequestFlags()
    settings = resolve_settings(
        model, data, request=request, train=train or TrainFlags(), offline=session.offline
    )
    matrix = folder_of(request) or Path("tune") / _folder_name(settings.request.id)
    given = budget or TuneFlags()

    from expunge.pipeline.early_checks import check_methods, check_settings

    check_settings(settings)
    check_methods(given.search)

    from expunge.benchmarking.tune import Budget

    limits = Budget(trials=given.trials, minutes=given.minutes, floor=given.floor)
    with runner_of(cluster) as runner:
        found = search(
            settings,
            matrix,
            budget=limits,
            methods=given.search,
            console=console,
            runner=runner,
        )

    from expunge.config.resolve import names_code, to_toml
    from expunge.utils.io import write_text

    write_text(matrix / "chosen.toml", to_toml(found.settings))
    console.line("wrote", f"{matrix}/   leaderboard.html, leaderboard.md, chosen.toml")
    again = ["expunge", "forget", str(matrix / "chosen.toml")]
    if names_code("method.name", found.settings.method.name):
        again += ["--method", found.settings.method.name]  # no file may name it alone
    console.line("next", " ".join(again))
    console.event("done", {"folder": matrix, "chosen": found.chosen.cell.id, "exit": 0})
    return 0


def _folder_name(request: str) -> str:
    """Return the id of a request as the name of one folder: a file may name a place elsewhere."""
    return re.sub(r"[^\w. -]", "-", request).strip(". ") or "request"


def search(
    settings: "Settings",
    matrix: Path,
    *,
    budget: "Budget",
    methods: tuple[str, ...] = (),
    console: "Console",
    runner: "Runner | None" = None,
) -> "Tuned":
    """Search, and say what was found."""
    from expunge.benchmarking.leaderboard import point
    from expunge.benchmarking.tune import keeps_floor
    from expunge.benchmarking.tune import tune as tune_settings

    found = tune_settings(
        settings, matrix, methods=methods, budget=budget, console=console, runner=runner
    )
    console.line("pareto", f"{len(found.pareto)} settings that no other one beats on both")
    for row in found.pareto:
        at = point(row)
        if at is not None:
            erased, kept = at
            numbers = f"erased {erased.value:.2f}, kept {kept.value:.2f}"
            console.note(f"{row.cell.id}: {numbers}, {row.ruling}")
    values = ", ".join(f"{path} {value}" for path, value in found.chosen.cell.values.items())
    chosen = f"{found.chosen.cell.name} ({values or 'its defaults'})"
    console.line("chosen", f"{chosen}: {found.chosen.ruling}")
    if not keeps_floor(found.chosen, budget):
        console.warn(f"nothing keeps the floor of {budget.floor}; this keeps most")
    return found
