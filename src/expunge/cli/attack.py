"""`expunge attack`: try everything to get it back."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from expunge.cli.audit import held_against, run_of
from expunge.cli.options import RequestFlags
from expunge.cli.session import Given
from expunge.config.catalogue import Level


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class AttackFlags:
    """Which attacks, with which budget, by whom."""

    level: Annotated[
        Level | None,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_LEVEL",
            help="how hard to try; default: audit.level of the request, which is quick",
        ),
    ] = None
    only: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            show_default=False,
            consume_multiple=False,
            env_var="EXPUNGE_ONLY",
            help="only this attack, with the budget of the level, or package.module:Class of your"
            " own; repeatable",
        ),
    ] = ()
    access: Annotated[
        Literal["T1", "T2", "T3"],
        Parameter(
            help="what the attacker has: queries, a fine-tuning service, the weights",
            env_var="EXPUNGE_ACCESS",
        ),
    ] = "T3"
    prompts: Annotated[
        Path | None,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_PROMPTS",
            help='your own prompts, JSON Lines: {"prompt": "In short: {question}"}',
        ),
    ] = None
    translator: Annotated[
        str,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_TRANSLATOR",
            help="MODULE:FUNCTION(text, language) for translations",
        ),
    ] = ""
    sibling: Annotated[
        str,
        Parameter(
            show_default=False,
            env_var="EXPUNGE_SIBLING",
            help="a model of the same shape to merge with",
        ),
    ] = ""


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
    attacks: AttackFlags | None = None,
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
    given = attacks or AttackFlags()
    _check(model, given, offline=settings.offline)

    from expunge.attacks.presets import AttackResources
    from expunge.attacks.runner import tools_of
    from expunge.pipeline.attack import AttackOptions
    from expunge.pipeline.attack import attack as attack_model

    audit, usual = settings.audit, tools_of(settings.audit)
    if given.only:
        usual = usual.used_by(given.only)
    choice = AttackOptions(
        level=given.level or audit.level,
        only=given.only,
        further=audit.attacks,
        access=given.access,
        tools=AttackResources(
            prompts=usual.prompts if given.prompts is None else str(given.prompts),
            translator=given.translator or usual.translator,
            sibling=given.sibling or usual.sibling,
        ),
    )
    found = attack_model(
        settings, model=model, choice=choice, against=run_of(against), console=console
    )
    for rung in found.rungs:
        console.event("rung", asdict(rung))
    console.event("done", {"folder": found.folder, "result": found.summary.result, "exit": 0})
    return 0


def _check(model: str, given: AttackFlags, *, offline: bool) -> None:
    from expunge.models.reference import require_model
    from expunge.pipeline.early_checks import check_attacks, check_prompts

    check_attacks(given.only)
    check_prompts("" if given.prompts is None else str(given.prompts))
    for each in (model, *([given.sibling] if given.sibling else [])):
        require_model(each, offline=offline)
