"""`expunge attack`: try everything to get it back."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from expunge.cli.audit import held_against
from expunge.cli.flags import RequestFlags
from expunge.cli.session import Given


def attack(
    model: Annotated[str, Parameter(help="the model to attack: Hub id, folder or GGUF file")],
    /,
    *,
    against: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            consume_multiple=True,
            env_var="EXPUNGE_AGAINST",
            help="run folder, request file (.toml), or the data that should be forgotten",
        ),
    ],
    level: Annotated[
        Literal["quick", "standard", "paranoid"],
        Parameter(help="how hard to try; see --only for the attacks", env_var="EXPUNGE_LEVEL"),
    ] = "quick",
    only: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            show_default=False,
            consume_multiple=False,
            help="only this attack, with the budget of the level; repeatable",
        ),
    ] = (),
    access: Annotated[
        Literal["T1", "T2", "T3"],
        Parameter(help="what the attacker has: queries, a fine-tuning service, the weights"),
    ] = "T3",
    prompts: Annotated[
        Path | None,
        Parameter(
            show_default=False,
            help='your own prompts, JSON Lines: {"prompt": "In short: {question}"}',
        ),
    ] = None,
    translator: Annotated[
        str,
        Parameter(show_default=False, help="MODULE:FUNCTION(text, language) for translations"),
    ] = "",
    sibling: Annotated[
        str, Parameter(show_default=False, help="a model of the same shape to merge with")
    ] = "",
    original: Annotated[
        str | None,
        Parameter(
            show_default=False, help="the model before forgetting, with data [env: EXPUNGE_MODEL]"
        ),
    ] = None,
    request: RequestFlags | None = None,
    session: Given,
) -> int:
    """Try to get the forgotten back: prompts, samples, fine-tuning, rounding, inner states."""
    console = session.begin()
    settings = held_against(session, against, original=original, request=request)

    from expunge.attack import Choice
    from expunge.attack import attack as attack_model

    choice = Choice(
        level=level,
        only=only,
        access=access,
        prompts=prompts,
        translator=translator,
        sibling=sibling,
    )
    found = attack_model(settings, model=model, choice=choice, console=console)
    for rung in found.rungs:
        console.event("rung", asdict(rung))
    console.event("done", {"folder": found.folder, "result": found.summary.result, "exit": 0})
    return 0
