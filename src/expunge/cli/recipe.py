"""`expunge recipe`: applications that run: a problem is planted, removed and measured."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.session import Given
from expunge.utils.console import Console
from expunge.utils.file_names import REQUEST


def recipe(
    name: Annotated[
        str | None, Parameter(help="the recipe to run; without one, the recipes are listed")
    ] = None,
    /,
    *,
    out: Annotated[
        Path | None,
        Parameter(
            help="folder of everything; default runs/recipe-NAME",
            show_default=False,
            env_var="EXPUNGE_OUT",
        ),
    ] = None,
    base: Annotated[
        str | None,
        Parameter(
            help="the model that is taught; default the one of `expunge demo`",
            show_default=False,
            env_var="EXPUNGE_RECIPE_BASE",
        ),
    ] = None,
    seed: Annotated[
        int, Parameter(help="seed of data and training", env_var="EXPUNGE_RECIPE_SEED")
    ] = 0,
    session: Given,
) -> int:
    """Plant a problem in a small model, remove it, and judge by the field's own measure.

    The same command goes on where a killed one stopped.
    """
    from expunge.recipes.catalogue import recipe_names
    from expunge.utils.registry import require_known

    if name is None:
        _list(session.console)
        return 0
    require_known("recipe", name, recipe_names(), otherwise="`expunge recipe` lists them")
    console = session.begin()
    if base is not None:
        from expunge.models.reference import require_model

        require_model(base, offline=session.offline)

    from expunge.recipes.run import recipe as run_recipe

    outcome = run_recipe(
        name, out=out, base=base, seed=seed, offline=session.offline, console=console
    )
    roles = {role: outcome.accepted(role) for role in outcome.table}
    ruling = outcome.verdict.ruling
    console.event(
        "done", {"folder": outcome.folder, "accepted": roles, "ruling": ruling, "exit": 0}
    )
    console.line("next", f"expunge report {outcome.folder / 'run'} --open")
    console.note(f"for a model of your own: copy {outcome.folder / REQUEST}")
    return 0


def _list(console: Console) -> None:
    from expunge.recipes.catalogue import RECIPES

    for each in RECIPES:
        console.line(each.name, f"{each.problem} (goal {each.goal})")
        console.note(f"measure: {each.measure}; {each.source}")
    console.line("run", "expunge recipe NAME --out FOLDER")
    console.event("recipes", {"names": [each.name for each in RECIPES]})
