"""`expunge chat`: ask the models of a run the same question, side by side."""

import io
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from expunge.cli.session import Given
from expunge.cli.settings import run_folder
from expunge.errors import Interrupted, UsageError
from expunge.utils.console import Console

if TYPE_CHECKING:
    from expunge.pipeline.chat import ChatAnswer, ChatReply, ChatSession

_TOKEN_WIDTH = 16
_COLUMN = 12

Questions = Annotated[
    tuple[str, ...],
    Parameter(
        help="a question; repeatable; without it, read from the terminal or a pipe",
        env_var="EXPUNGE_ASK",
        negative="",
        consume_multiple=False,
        show_default=False,
    ),
]


def chat(
    run: Annotated[Path, Parameter(help="run folder")],
    /,
    *,
    ask: Questions = (),
    answer: Annotated[
        str,
        Parameter(
            help="the answer whose tokens are scored; default: that of the erased record",
            env_var="EXPUNGE_ANSWER",
            negative="",
            show_default=False,
        ),
    ] = "",
    model: Annotated[
        str | None,
        Parameter(
            help="the model in the place of the unlearned one; default: that of the run",
            env_var="EXPUNGE_CHAT_MODEL",
            negative="",
            show_default=False,
        ),
    ] = None,
    session: Given,
) -> int:
    """Ask original, unlearned and gold models a question, and show how likely the erased answer is.

    Each question stands alone, and is answered greedily. Nothing is written.
    """
    folder = run_folder(run)
    console = session.begin()
    if model is not None:
        from expunge.models.reference import require_model

        require_model(model, offline=session.offline)

    from expunge.pipeline.chat import ChatSession

    models = ChatSession(folder, model=model, offline=session.offline)
    _say_what_lacks(models, console, answer=answer)
    asked = 0
    for question in ask or _questions():
        if not question.strip():
            continue
        # One question needs one model at a time in memory; a conversation keeps them.
        _show(_reply(models, question, answer, keep=len(ask) != 1, console=console), console)
        asked += 1
    if not asked:
        raise UsageError(
            "no-question",
            what="no question was asked",
            why="neither --ask nor the input had one",
            fix=f'expunge chat {run} --ask "..."',
        )
    return 0


def _say_what_lacks(models: "ChatSession", console: Console, *, answer: str) -> None:
    if models.unfinished:
        console.warn(models.unfinished)
    if models.without_unlearned:
        console.warn(f"unlearned is left out: {models.without_unlearned}")
    if not any(role.startswith("gold") for role in models.references):
        console.note("no gold: the request names none")
    if models.without_erased and not answer:
        console.warn(models.without_erased)


def _reply(
    models: "ChatSession", question: str, answer: str, *, keep: bool, console: Console
) -> "ChatReply":
    known = set(models.missing)
    reply = models.ask(question, erased=answer, keep=keep)
    for role, why in models.missing.items():
        if role not in known:
            console.warn(f"{role} is left out: {why}")
    return reply


def _questions() -> Iterator[str]:
    """Yield lines of the terminal, with a prompt, or of a pipe; bytes that are no text are marked.

    Raises:
        Interrupted: The user stopped.
    """
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    try:
        while True:
            if sys.stdin.isatty():
                sys.stderr.write("ask (an empty line ends)> ")
                sys.stderr.flush()
            line = sys.stdin.readline()
            if not line or (sys.stdin.isatty() and not line.strip()):
                return
            yield line
    except KeyboardInterrupt as error:
        raise Interrupted(
            "interrupted",
            what="stopped by you",
            why="a chat writes nothing",
            fix="start it again with the same command",
        ) from error


def _show(reply: "ChatReply", console: Console) -> None:
    """Show the answers, and below them the erased answer token by token."""
    from expunge.reporting.wording import chance, spelled

    console.line("question", reply.question)
    for each in reply.answers:
        console.line(each.role, each.text or "(nothing)")
    console.event("chat", asdict(reply))
    if not reply.erased:
        console.note("this is no question of the forget set; --answer names an answer to score")
        return
    console.line("erased", reply.erased)
    console.line("", _row("token", [each.role for each in reply.answers]))
    first = reply.answers[0]
    alike = [each for each in reply.answers if _tokens(each) == _tokens(first)]
    for place, token in enumerate(_tokens(first)):
        cells = [
            chance(each.erased[place].probability) if each in alike else "other tokens"
            for each in reply.answers
        ]
        console.note(_row(spelled(token), cells))
    console.note(_row("whole answer", [chance(each.whole or 0.0) for each in reply.answers]))


def _tokens(answer: "ChatAnswer") -> list[str]:
    return [each.token for each in answer.erased]


def _row(name: str, cells: list[str]) -> str:
    """Return one line of the table; the first column is a token, cut where it is long."""
    head = name if len(name) < _TOKEN_WIDTH else f"{name[: _TOKEN_WIDTH - 2]}…"
    return head.ljust(_TOKEN_WIDTH) + "".join(cell.rjust(_COLUMN) for cell in cells)
