"""The route of a run: `--method auto`, and `retrain` by name, become inputs that can be planned."""

from dataclasses import dataclass, replace

from expunge.config.request import Goal, Response
from expunge.config.settings import FinetuneSettings, MethodSettings, Settings
from expunge.data.readers import read
from expunge.errors import InputError, UsageError
from expunge.methods.finetune import Finetune
from expunge.models.loading import load_config
from expunge.pipeline.exact import Removal, plan_removal, removal_by_recipe
from expunge.pipeline.gold import golds_beside, training_behind
from expunge.pipeline.plan import make_plan
from expunge.pipeline.recipe import base_of_original, recipe_of
from expunge.planning.routes import Route, RouteName, choose
from expunge.preparation.prepare import (
    AUTO,
    ERASE,
    RETRAIN,
    ROUTES,
    Prepared,
    prepare,
    prepare_stages,
    source_of,
)
from expunge.provenance.training_facts import read_trained_run, training_of
from expunge.training.sampler import Streams
from expunge.training.step_gradient import GradientTransforms

_NEEDS = "the training data (--trained-on) and the recipe (--recipe), or a run of `expunge train`"
REWIND = "rewind"
"""The method of the route of that name."""
_SHAPE = ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """What a run does."""

    settings: Settings
    """With the method that was chosen, and the golds that were found."""
    parts: tuple[Prepared, ...]
    """The inputs of its stages."""
    routes: tuple[Route, ...] = ()
    """All that were weighed; none where the user named a method."""
    removal: Removal | None = None
    """Of the route `retrain`: what is trained again."""


def choose_route(settings: Settings) -> Chosen:
    """Find the ways that are open, and take one; no weight is loaded.

    A method that the user named stands, and so does a chain. Wrappers, hyperparameters of no named
    method, and an answer to teach are about erasing, and leave no other route: who trains again
    without the records learns nothing instead.

    Args:
        settings: What to do.

    Raises:
        InputError: As `expunge.pipeline.exact.plan_removal`, where `retrain` was asked for; of
            `auto`, the table says so instead.
        UsageError: `retrain` was asked for and is not open; or as `prepare_stages`.
    """
    settings = _with_answers(with_golds(settings))
    name = settings.method.name
    if settings.stage is not None or name not in (AUTO, RETRAIN):
        return Chosen(settings=settings, parts=prepare_stages(settings))
    if name == AUTO and _is_about_erasing(settings):
        settings = without_routes(settings)
        return Chosen(settings=settings, parts=prepare_stages(settings))
    if name == RETRAIN:
        removal = _removal(settings)
        if removal is None:
            raise _not_open(settings)
        return _retraining(settings, removal)
    try:
        removal, needs = _removal(settings), _NEEDS
    except (InputError, UsageError) as error:
        removal, needs = None, f"another input: {error.what}"
    erase = _prepared(settings, ERASE)
    if removal is None and not isinstance(erase, Chosen):
        raise erase
    table = (
        _retrain_route(settings, removal, needs),
        _rewind_route(settings),
        _route("erase", erase, ERASE),
    )
    if isinstance(erase, Chosen) and choose(table).name == "erase":
        return replace(erase, routes=table)
    assert removal is not None, "of two routes one is open"
    return replace(_retraining(_named(settings, RETRAIN), removal), routes=table)


def with_golds(settings: Settings) -> Settings:
    """Return settings with the golds that lie beside the original, where none are named."""
    request = settings.request
    if request.gold or training_behind(settings.model) is None:
        return settings
    forget = read(request.forget, offline=settings.offline).records
    found = golds_beside(settings.model, forget)
    return settings.model_copy(update={"request": request.model_copy(update={"gold": found})})


def without_routes(settings: Settings) -> Settings:
    """Return settings that erase where they leave the route open."""
    settings = with_golds(settings)
    return _named(settings, ERASE) if settings.method.name in ROUTES else settings


def _with_answers(settings: Settings) -> Settings:
    """Return settings by which an edit teaches the alternatives: it is done when they are said."""
    request = settings.request
    if request.goal is not Goal.EDIT or request.response is not Response.ANY:
        return settings
    request = request.model_copy(update={"response": Response.ALTERNATIVE})
    return settings.model_copy(update={"request": request})


def _is_about_erasing(settings: Settings) -> bool:
    wrappers = (settings.robust, settings.combine, settings.mask)
    named = any(wrapper.name not in ("none", "auto") for wrapper in wrappers)
    teaches = settings.request.response is not Response.ANY
    given = bool(settings.method.parameters) or settings.optimiser.name != "adamw"
    return named or teaches or given


def _named(settings: Settings, method: str) -> Settings:
    """Return settings with a method in the place of the route; hyperparameters stay."""
    given = settings.method.parameters
    return settings.model_copy(update={"method": MethodSettings(name=method, **given)})


def _removal(settings: Settings) -> Removal | None:
    """Return what is trained again; None where nobody knows how the original was trained."""
    run = training_of(settings.model)
    forget = settings.request.forget
    if run is not None:
        return plan_removal(read_trained_run(run), forget, offline=settings.offline)
    recipe = recipe_of(settings)
    if recipe is not None:
        _require_same_shape(settings, recipe)
        return removal_by_recipe(recipe, forget, offline=settings.offline)
    return None


def _require_same_shape(settings: Settings, recipe: FinetuneSettings) -> None:
    source = source_of(settings)
    original = load_config(settings.model, source).get_text_config()
    base = load_config(recipe.model, source).get_text_config()
    differ = [
        f"{key} {getattr(base, key)} instead of {getattr(original, key)}"
        for key in _SHAPE
        if getattr(base, key) != getattr(original, key)
    ]
    if differ:
        raise InputError(
            "base-differs",
            what=f"{recipe.model} is no base of {settings.model}: {', '.join(differ)}",
            why="the original cannot have been trained from a model of another architecture",
            fix="name the model that the training started from as `model` in the recipe",
        )


def _retraining(settings: Settings, removal: Removal) -> Chosen:
    """Return the inputs of a run that trains again; what is judged stays as the request says."""
    prepared = prepare(settings)
    job = removal.job
    again = replace(
        prepared,
        method=Finetune(),
        streams=Streams(forget=job.parts, retain=()),
        options=job.options,
        wraps=GradientTransforms(),
    )
    return Chosen(settings=settings, parts=(again,), removal=removal)


def _retrain_route(settings: Settings, removal: Removal | None, needs: str) -> Route:
    if removal is None:
        return Route(name="retrain", claim="E4", needs=needs)
    prepared = _retraining(settings, removal).parts[0]
    cost = make_plan(prepared, audited=False).cost
    share = (removal.steps - removal.begun_at) / removal.steps
    claim = removal.begin.claim
    return Route(
        name="retrain",
        claim="E1" if claim is None else claim.level,
        flops=share * cost.flops,
        seconds=share * cost.seconds,
        peak_gib=cost.peak_gib,
        detail=f"{removal.steps - removal.begun_at} of {removal.steps} steps, "
        f"{len(removal.job.records)} records",
    )


def _rewind_route(settings: Settings) -> Route:
    request = settings.request
    if base_of_original(settings) is None:
        needs = "the base model (BASE+ADAPTER, or --base)"
        return Route(name="rewind", claim="E1", needs=needs)
    if request.retain in ("auto", "none"):
        return Route(name="rewind", claim="E1", needs="the retain set, whole (--retain)")
    route = _route("rewind", _prepared(settings, REWIND), "what is not retained is lost")
    return replace(route, by_name=True)


def _prepared(settings: Settings, method: str) -> Chosen | InputError | UsageError:
    """Return the inputs of a run by a method, or why there is none."""
    named = _named(settings, method)
    try:
        return Chosen(settings=named, parts=prepare_stages(named))
    except (InputError, UsageError) as error:
        return error


def _route(name: RouteName, inputs: Chosen | InputError | UsageError, detail: str) -> Route:
    """Return a route that ends in a model which is judged by tests."""
    if not isinstance(inputs, Chosen):
        return Route(name=name, claim="E1", needs=f"another input: {inputs.what}")
    cost = make_plan(inputs.parts[-1], audited=False).cost
    return Route(
        name=name,
        claim="E1",
        flops=cost.flops,
        seconds=cost.seconds,
        peak_gib=cost.peak_gib,
        detail=detail,
    )


def _not_open(settings: Settings) -> UsageError:
    return UsageError(
        "route-not-open",
        what=f"{settings.model} cannot be trained again",
        why=f"it needs {_NEEDS}",
        fix="leave --method out: the plan then takes a route that is open",
    )
