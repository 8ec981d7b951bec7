"""`expunge trace`: which training records teach what is to be forgotten."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.options import Erase, KnownModel
from expunge.cli.session import Given


def trace(
    model: KnownModel,
    /,
    *,
    corpus: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            consume_multiple=True,
            env_var="EXPUNGE_CORPUS",
            help="its training data: files, folders or Hub ids; repeatable",
        ),
    ],
    erase: Erase,
    top: Annotated[
        int, Parameter(env_var="EXPUNGE_TOP", help="how many records are written, at least")
    ] = 20,
    out: Annotated[
        Path, Parameter(env_var="EXPUNGE_OUT", help="file of the highest records, with texts")
    ] = Path("trace.jsonl"),
    seed: Annotated[
        int, Parameter(env_var="EXPUNGE_TRACE_SEED", help="of the projections of gradients")
    ] = 0,
    session: Given,
) -> int:
    """Rank training records for some records to forget, and say which ones were missed."""
    console = session.begin()

    from expunge.data.readers import require_source
    from expunge.models.reference import require_model

    for source in (*corpus, *erase):
        require_source(source)
    require_model(model, offline=session.offline)

    from expunge.pipeline.trace import trace as trace_data

    found = trace_data(
        model,
        corpus,
        erase,
        out=out,
        top=top,
        seed=seed,
        offline=session.offline,
        console=console,
    )
    payload = {"file": found.file, "use": found.recommended.name, "missed": len(found.missed)}
    console.event("done", {**payload, "exit": 0})
    return 0
