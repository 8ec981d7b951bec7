"""`expunge locate`: where in a model the facts lie."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.options import Erase, KnownModel
from expunge.cli.session import Given


def locate(
    model: KnownModel,
    /,
    *,
    erase: Erase,
    retain: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            consume_multiple=True,
            show_default=False,
            env_var="EXPUNGE_REQUEST_RETAIN",
            help="records that stay; default: general questions that ship with expunge",
        ),
    ] = (),
    out: Annotated[
        Path, Parameter(env_var="EXPUNGE_OUT", help="folder of the table and the heat map")
    ] = Path("located"),
    seed: Annotated[
        int, Parameter(env_var="EXPUNGE_LOCATE_SEED", help="of the noise and the random masks")
    ] = 0,
    session: Given,
) -> int:
    """Rank the parts of a model for some facts, and say whether training them alone helps."""
    console = session.begin()

    from expunge.data.readers import require_source
    from expunge.models.reference import require_model

    for source in (*erase, *retain):
        require_source(source)
    require_model(model, offline=session.offline)

    from expunge.pipeline.locate import locate as locate_facts

    found = locate_facts(
        model,
        erase,
        retain=retain,
        out=out,
        seed=seed,
        offline=session.offline,
        console=console,
    )
    payload = {"folder": found.folder, "helps": bool(found.settings), "settings": found.settings}
    console.event("done", {**payload, "exit": 0})
    return 0
