"""`expunge request`: from a name and a corpus to a request for review."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from expunge.cli.session import Given
from expunge.cli.terminal import chosen, confirmed
from expunge.errors import UsageError
from expunge.utils.file_names import REQUEST
from expunge.utils.spelling import counted

if TYPE_CHECKING:
    from expunge.requests.namesakes import SeveralPeople


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class SearchFlags:
    """Where to look, for whom, and what to write."""

    corpus: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            consume_multiple=True,
            env_var="EXPUNGE_CORPUS",
            help="where to look: files, folders or Hub ids; repeatable",
        ),
    ] = ()
    out: Annotated[Path, Parameter(env_var="EXPUNGE_OUT", help="folder of the request")] = Path(
        "request"
    )
    model: Annotated[
        str | None,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_MODEL",
            help="ask this model what it states; what it does not state is left out",
        ),
    ] = None
    goal: Annotated[
        Literal["removal", "suppression", "edit"] | None,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_REQUEST_GOAL",
            help="what forgotten means; written into the request",
        ),
    ] = None
    alias: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            show_default=False,
            env_var="EXPUNGE_ALIAS",
            help="another name of the person; repeatable",
        ),
    ] = ()
    identifier: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            show_default=False,
            env_var="EXPUNGE_IDENTIFIER",
            help="e-mail address, number or other value that only this person has; repeatable",
        ),
    ] = ()
    choose: Annotated[
        int | None,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_CHOOSE",
            help="of several people of the name, which one",
        ),
    ] = None
    yes: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            env_var="EXPUNGE_YES",
            help="replace a request that is there without asking",
        ),
    ] = False
    gate: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            env_var="EXPUNGE_GATE",
            help="exit with 3 where the request asks for more than one person's own data",
        ),
    ] = False


def request(
    name: Annotated[
        str, Parameter(help="name of the person, or a file: name, aliases, identifiers, one a line")
    ],
    /,
    *,
    flags: SearchFlags | None = None,
    session: Given,
) -> int:
    """Find what a corpus says of a person, and write a request with a page for review.

    The files that it writes are the request: edit them, then run `expunge forget`.
    """
    console = session.begin()

    from expunge.models.reference import require_model
    from expunge.requests.corpus import require_corpus
    from expunge.requests.names import searched_person
    from expunge.requests.namesakes import SeveralPeople

    flags = flags or SearchFlags()
    person = searched_person(name, aliases=flags.alias, identifiers=flags.identifier)
    require_corpus(flags.corpus)
    if not flags.yes:
        _require_free(flags.out / REQUEST)
    if flags.model is not None:
        require_model(flags.model, offline=session.offline)

    from expunge.pipeline.request import request as write

    write_to = partial(
        write,
        person,
        flags.corpus,
        out=flags.out,
        model=flags.model,
        goal=flags.goal,
        gate=flags.gate,
        offline=session.offline,
        console=console,
    )
    try:
        written = write_to(choose=flags.choose)
    except SeveralPeople as error:
        written = write_to(choose=_choice(error))
    counts = {"erase": len(written.draft.erase), "left_out": len(written.draft.left_out)}
    console.event("done", {"folder": written.folder, "page": written.page, **counts, "exit": 0})
    return 0


def _require_free(file: Path) -> None:
    """Ask before a request that is there is replaced; where nobody can answer, refuse."""
    if file.exists() and not confirmed(f"replace the request in {file.parent}?"):
        raise UsageError(
            "request-exists",
            what=f"{file} exists; nothing was written",
            why="edits of it would be lost",
            fix="name another folder with --out, or replace it with --yes",
        )


def _choice(error: "SeveralPeople") -> int:
    """Ask which of several people is meant; where nobody can answer, it is an error."""
    listed = [
        f"{counted(len(group.documents), 'document')}; {'; '.join(group.values)}"
        for group in error.groups
    ]
    number = chosen("several people have this name", listed)
    if number is None:
        raise error
    return number
