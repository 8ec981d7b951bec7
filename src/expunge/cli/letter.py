"""`expunge letter`: the answer to the person who asked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from expunge.cli.documents import Out, Replace, free
from expunge.cli.session import Given
from expunge.cli.settings import run_folder


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class LetterFlags:
    """What only the operator knows; a place is left for what is not given."""

    to: Annotated[
        str,
        Parameter(show_default=False, env_var="EXPUNGE_TO", help="name of the person"),
    ] = ""
    controller: Annotated[
        str,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_CONTROLLER",
            help="who answers: name and address",
        ),
    ] = ""
    authority: Annotated[
        str,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_AUTHORITY",
            help="the supervisory authority to complain to, with its address",
        ),
    ] = ""
    product: Annotated[
        str,
        Parameter(show_default=False, env_var="EXPUNGE_PRODUCT", help="what the model is known as"),
    ] = ""
    reference: Annotated[
        str,
        Parameter(
            show_default=False, env_var="EXPUNGE_REFERENCE", help="file number of the request"
        ),
    ] = ""
    effective: Annotated[
        str,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_EFFECTIVE",
            help="day on which the changed model is put to use, YYYY-MM-DD",
        ),
    ] = ""


def letter(
    run: Annotated[Path, Parameter(help="run folder")],
    /,
    *,
    details: LetterFlags | None = None,
    out: Out = None,
    yes: Replace = False,
    session: Given,
) -> int:
    """Write the letter to the person: one page in plain words.

    It holds no personal data but what you add with its flags.
    """
    folder, flags = run_folder(run), details or LetterFlags()

    from expunge.ledger.documents.letter import LetterDetails, default_path
    from expunge.ledger.documents.letter import letter as write
    from expunge.ledger.documents.sheet import require_format
    from expunge.utils.dates import day_of

    path = out or default_path(folder, "letter.md")
    require_format(path)
    told = LetterDetails(
        to=flags.to,
        controller=flags.controller,
        authority=flags.authority,
        product=flags.product,
        reference=flags.reference,
        effective=day_of(flags.effective, "--effective") if flags.effective else None,
    )
    written = write(folder, out=free(path, yes=yes), details=told)
    console = session.console
    console.line("wrote", str(written.path))
    for place in written.places:
        console.line("fill in", place)
    console.event("done", {"letter": written.path, "fill_in": list(written.places), "exit": 0})
    return 0
