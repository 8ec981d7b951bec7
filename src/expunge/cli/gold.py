"""`expunge gold`: reference models that never saw a forget set."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.session import Given

Halves = Annotated[
    int,
    Parameter(
        help="train models on random halves instead",
        env_var="EXPUNGE_HALVES",
    ),
]
Unseen = Annotated[
    tuple[str, ...],
    Parameter(
        help="for --halves: records like the forget set that the run never saw; repeatable",
        negative="",
        show_default=False,
        env_var="EXPUNGE_UNSEEN",
    ),
]


def gold(
    run: Annotated[Path, Parameter(help="folder of `expunge train`")],
    /,
    *,
    forget: Annotated[
        tuple[str, ...],
        Parameter(
            help="the forget set: files, folders or Hub ids; repeatable",
            negative="",
            env_var="EXPUNGE_REQUEST_FORGET",
        ),
    ],
    seeds: Annotated[int, Parameter(help="how many models", env_var="EXPUNGE_SEEDS")] = 3,
    halves: Halves = 0,
    unseen: Unseen = (),
    out: Annotated[
        Path | None,
        Parameter(
            help="folder of the models; default in the run",
            show_default=False,
            env_var="EXPUNGE_OUT",
        ),
    ] = None,
    session: Given,
) -> int:
    """Train retrained models (golds) without the forget set, by the recipe of a run.

    `forget` and `audit` of the run use them. The same command goes on where a killed one stopped.
    """
    console = session.begin()

    from expunge.pipeline.early_checks import check_data
    from expunge.provenance.training_facts import read_trained_run

    read_trained_run(run)
    check_data((*forget, *unseen))
    from expunge.pipeline.gold import gold as train_golds

    runs = train_golds(
        run,
        forget,
        seeds=seeds,
        halves=halves,
        unseen=unseen,
        out=out,
        offline=session.offline,
        console=console,
    )
    console.event("done", {"folders": [each.folder for each in runs], "exit": 0})
    console.line("next", f"expunge forget {run} {' '.join(forget)} --goal removal")
    return 0
