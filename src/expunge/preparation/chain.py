"""Stages: a chain of methods as settings of its own for each of them.

Every stage takes the model that the stage before it left for its original: references are computed
on it, and alternatives are written by it. What is audited is the last model against the first.
"""

from expunge.config.request import Response
from expunge.config.settings import MethodSettings, Settings, Stage
from expunge.errors import UsageError
from expunge.methods import build
from expunge.methods.guards.base import Guard
from expunge.preparation.validate import needs_float32

SHARED = ("adapter", "max_length", "seed")
"""Keys of `[train]` that no stage may change: they belong to the whole run."""


def stages(settings: Settings) -> tuple[Settings, ...]:
    """Return the settings of each stage, in order; of a run without a chain, its own.

    All stages compute in one number format, the widest that one of them needs, and only the last
    one has to teach the response of the request.

    Args:
        settings: The settings of the whole run.

    Raises:
        UsageError: `method-and-stages`, `adapter-of-a-chain`, `stage-differs`, `guard-in-a-chain`,
            or no such method, wrapper or hyperparameter.
    """
    if settings.stage is None:
        return (settings,)
    _check(settings, settings.stage)
    every = [_alone(settings, stage) for stage in settings.stage]
    wide = settings.precision == "auto" and any(needs_float32(each) for each in every)
    precision = "fp32" if wide else settings.precision
    teaches_none = settings.request.model_copy(update={"response": Response.ANY})
    requests = [*(teaches_none for _ in every[1:]), settings.request]
    return tuple(
        each.model_copy(update={"precision": precision, "request": request})
        for each, request in zip(every, requests, strict=True)
    )


def stage_names(settings: Settings) -> tuple[str, ...]:
    """Return the names of the methods that a run goes through."""
    if settings.stage is None:
        return (settings.method.name,)
    return tuple(stage.method.name for stage in settings.stage)


def _alone(settings: Settings, stage: Stage) -> Settings:
    tables = {table: getattr(stage, table) for table in Stage.model_fields}
    return settings.model_copy(update={"stage": None, **tables})


def _check(settings: Settings, chain: tuple[Stage, ...]) -> None:
    if settings.method != MethodSettings():
        raise UsageError(
            "method-and-stages",
            what=f"method {settings.method.name} is named beside [[stage]] tables",
            why="each stage names its own method, and no further one would run",
            fix="leave --method and [method] out, or write it as another [[stage]]",
        )
    if settings.train.adapter:
        raise UsageError(
            "adapter-of-a-chain",
            what="the result of a chain cannot be kept as an adapter",
            why="an adapter lies over the original, and the stages after the first change another"
            " model",
            fix="leave --adapter out: the merged model is written",
        )
    for number, stage in enumerate(chain, 1):
        _check_stage(settings, stage, f"stage {number} of {len(chain)}")


def _check_stage(settings: Settings, stage: Stage, where: str) -> None:
    for key in SHARED:
        own, common = getattr(stage.train, key), getattr(settings.train, key)
        if own != common:
            raise UsageError(
                "stage-differs",
                what=f"{where} sets train.{key} to {own}, the run to {common}",
                why="all stages work on the same records, and the result is audited once",
                fix=f"set train.{key} in [train] alone",
            )
    if isinstance(build(stage.method.name, stage.method.parameters), Guard):
        raise UsageError(
            "guard-in-a-chain",
            what=f"{where} is {stage.method.name}, a guard",
            why="a chain hands weights from stage to stage, and a guard leaves them as they are",
            fix="leave it out of the chain; a guard is a run of its own",
        )
