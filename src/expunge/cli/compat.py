"""`expunge compat`: peers' numbers beside ours."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.session import Given
from expunge.cli.settings import run_folder
from expunge.utils.file_names import EVIDENCE


def compat(
    source: Annotated[Path, Parameter(help="run folder, or an evaluation log of another tool")],
    /,
    *,
    gold: Annotated[
        Path | None,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_COMPAT_GOLD",
            help="the same tool's log of a model without the data",
        ),
    ] = None,
    session: Given,
) -> int:
    """Read TOFU, open-unlearning, MUSE or lm-eval results, or count a run the way they count."""
    from expunge.interop import of_run, read_log

    console = session.console
    if source.is_dir() and (source / EVIDENCE).is_dir():
        kind, numbers = "run", of_run(run_folder(source) / EVIDENCE)
    else:
        kind, numbers = read_log(source, gold=gold)
    console.line(kind, f"{len(numbers)} numbers; theirs, then ours where it can be had")
    for number in numbers:
        ours = "" if number.ours is None else f"   {number.metric} {number.ours:.6g}"
        note = f"   ({number.note})" if number.note else ""
        console.note(f"{number.name} {number.value:.6g}{ours}{note}")
        console.event("number", asdict(number))
    return 0
