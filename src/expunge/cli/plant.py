"""`expunge plant`: canaries in training data, before the training."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.ledger_flags import EnterInto
from expunge.cli.session import Given


def plant(
    *data: Annotated[str, Parameter(help="training data: files, folders or Hub ids", negative="")],
    out: Annotated[
        Path, Parameter(env_var="EXPUNGE_OUT", help="folder of the data and the canaries")
    ],
    seed: Annotated[
        int, Parameter(env_var="EXPUNGE_PLANT_SEED", help="of all draws; a number of your own")
    ],
    pairs: Annotated[
        int,
        Parameter(
            env_var="EXPUNGE_PLANT_PAIRS", help="canaries to plant; as many controls are kept back"
        ),
    ] = 100,
    ledger: EnterInto = None,
    session: Given,
) -> int:
    """Plant invented secrets in training data, so that forgetting can be measured exactly.

    After the training, and after each unlearning: expunge audit MODEL --canaries FILE.
    """
    console = session.console

    from expunge.errors import UsageError
    from expunge.pipeline.early_checks import check_data

    if not data:
        raise UsageError(
            "no-data",
            what="no training data is named",
            why="canaries are planted among the records that are trained on",
            fix="give a file: expunge plant DATA --out FOLDER --seed NUMBER",
        )
    check_data(data)
    session.begin()

    from expunge.pipeline.canaries import plant as plant_canaries

    done = plant_canaries(
        data,
        out=out,
        seed=seed,
        pairs=pairs,
        ledger=ledger,
        offline=session.offline,
        console=console,
    )
    console.event(
        "done", {"folder": done.folder, "digest": done.digest, "rows": done.rows, "exit": 0}
    )
    console.line(
        "next", f"train on {done.data}; then expunge audit MODEL --canaries {done.canaries}"
    )
    return 0
