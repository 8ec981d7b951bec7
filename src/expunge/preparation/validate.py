"""From settings to the wrappers of a run, and the refusal of what cannot work together."""

from collections.abc import Sequence
from dataclasses import fields

import torch

from expunge.config.settings import RobustSettings, Settings, TrainSettings
from expunge.errors import UsageError
from expunge.methods import AnyMethod
from expunge.methods.base import Controlled, Method, Shape, Term, last_block
from expunge.methods.edits.base import Edit
from expunge.methods.guards.base import Guard
from expunge.models.lora import rewritten_base
from expunge.optim import COMBINE, MASKS, OPTIMISERS, ROBUST, build_wrapper
from expunge.optim.base import Latent
from expunge.optim.optimizers.adamw import AdamW
from expunge.training.sampler import Streams
from expunge.training.step_gradient import GradientTransforms


def build_wraps(
    settings: Settings, method: AnyMethod, shape: Shape, streams: Streams, dtype: torch.dtype
) -> GradientTransforms:
    """Make the wrappers that the settings name.

    Args:
        settings: What to do.
        method: Whose gradients are wrapped.
        shape: Of the model.
        streams: What the run trains on.
        dtype: Number format of the weights.

    Raises:
        UsageError: No such wrapper or hyperparameter, or things that do not work together.
    """
    if isinstance(method, Edit | Guard):
        _check_edit(settings, method)
        if method.passes().needs_retain and not streams.retain:
            raise _needs_retain(settings.method.name)
        _check_parameters(settings.method.name, method)
        method.trains(shape)  # refuses blocks that the model does not have
        return GradientTransforms()
    robust, combine = robust_choice(settings, method), settings.combine
    mask, optimiser = settings.mask, settings.optimiser
    made = build_wrapper(OPTIMISERS, optimiser.name, optimiser.parameters, what="optimiser")
    wraps = GradientTransforms(
        robust=build_wrapper(ROBUST, robust.name, robust.parameters, what="robust"),
        combine=build_wrapper(COMBINE, combine.name, combine.parameters, what="combine"),
        choose=build_wrapper(MASKS, mask.name, mask.parameters, what="mask"),
        optimiser=made or AdamW(),
        average_last=settings.train.average_last,
    )
    terms = method.terms(shape)
    _check_strengths(settings.method.name, terms)
    adapts = not settings.train.full and method.trains(shape) is None
    _check_adapter(settings, shape, adapts=adapts)
    _check_reach(settings, terms)
    _check_mask(settings, wraps, adapts=adapts)
    _check_retain(settings, wraps, method, shape, streams)
    if isinstance(wraps.robust, Latent):
        _check_latent(settings, wraps.robust.block(shape), method, shape)
    _check_precision(settings, dtype)
    return wraps


def robust_choice(settings: Settings, method: AnyMethod) -> RobustSettings:
    """Return how the forget gradient is taken: `auto` is what the method names, for an adapter."""
    chosen = settings.robust
    if chosen.name != "auto":
        return chosen
    named = method.robust if isinstance(method, Controlled) else "none"
    return RobustSettings(name="none" if settings.train.full else named, **chosen.parameters)


def described(settings: Settings, method: AnyMethod) -> dict[str, str]:
    """Return the wrappers of a run that has any, as table of the settings to words."""
    tables = {
        "robust": robust_choice(settings, method),
        "combine": settings.combine,
        "mask": settings.mask,
        "optimiser": settings.optimiser,
    }
    found: dict[str, str] = {}
    for table, choice in tables.items():
        given = ", ".join(f"{key} {value}" for key, value in choice.parameters.items())
        if given or choice.name not in ("none", "adamw"):
            found[table] = f"{choice.name} ({given})" if given else choice.name
    if settings.train.init != "default":
        found["init"] = settings.train.init
    if settings.train.average_last:
        found["average_last"] = f"{settings.train.average_last:g}"
    return found


_OF_TRAINING = ("epochs", "steps", "lr", "rank", "first_layer", "last_layer", "targets", "adapter")
"""Keys of `[train]` that only training reads."""
_FLAGS = ("adapter", "full")
"""Keys that a user sets with a flag of their own."""


def unread(method: Edit | Guard) -> tuple[str, ...]:
    """Return the keys of `[train]` that mean nothing to a method that does not train."""
    return (*_OF_TRAINING, "forget_tokens" if isinstance(method, Edit) else "full")


def _check_edit(settings: Settings, method: Edit | Guard) -> None:
    moves = isinstance(method, Edit)
    train, usual = settings.train, TrainSettings()
    changed = [key for key in unread(method) if getattr(train, key) != getattr(usual, key)]
    given = [f"--{key}" if key in _FLAGS else f"train.{key}" for key in changed]
    given += list(described(settings, method))
    if given:
        raise UsageError(
            "not-for-an-edit",
            what=f"{given[0]} has no effect on method {settings.method.name}",
            why="it works on the weights directly: no adapter, no gradients to wrap, and no steps "
            "but its own"
            if moves
            else "a guard leaves the weights alone: there is nothing to train or to wrap",
            fix="leave it out; [method] holds what can be set",
        )


def _check_parameters(name: str, method: Edit | Guard) -> None:
    """Refuse a number below zero where the usual one is above: it would turn the method around."""
    for field in fields(method):  # pyright: ignore[reportArgumentType] - methods are dataclasses
        usual, value = field.default, getattr(method, field.name)
        if isinstance(usual, int | float) and usual > 0 > value:
            raise UsageError(
                "negative-strength",
                what=f"{field.name} = {value:g} of method {name} is below 0",
                why="it would do the opposite of what the method does",
                fix=f"leave it out for {usual:g}, or set it above 0",
            )


def _check_strengths(name: str, terms: Sequence[Term]) -> None:
    """Refuse a strength that turns its term around: towards what is to be forgotten, say."""
    turned = [t.name for t in terms if not callable(t.coef) and t.coef < 0]
    if turned:
        raise UsageError(
            "negative-strength",
            what=f"the strength of the {turned[0]} term of method {name} is below 0",
            why="it would train towards what the term trains against",
            fix="set it to 0 or above",
        )


def _needs_retain(name: str) -> UsageError:
    return UsageError(
        "nothing-to-retain",
        what=f"method {name} needs retain records, and there are none",
        why="it tells what to change by what must not change",
        fix="name some with --retain FILE, or choose a method that reads none: `expunge methods`",
    )


def _check_latent(settings: Settings, layer: int, method: Method, shape: Shape) -> None:
    """Refuse an adversary above everything that the forget terms read."""
    terms = [term for term in method.terms(shape) if term.streams[0].side == "forget"]
    if layer > max(shape.layers if term.layer is None else term.layer for term in terms):
        raise UsageError(
            "adversary-too-high",
            what=f"robust {settings.robust.name} moves states after block {layer}",
            why=f"method {settings.method.name} reads none that high: nothing would be moved",
            fix="set robust.layer to the block that the method reads, or a lower one",
        )


def _check_adapter(settings: Settings, shape: Shape, *, adapts: bool) -> None:
    train = settings.train
    for knob, changed in (("init", train.init != "default"), ("adapter", train.adapter)):
        if changed and not adapts:
            raise UsageError(
                "no-adapter-here",
                what=f"train.{knob} is about an adapter, and this run trains the weights "
                "themselves",
                why="with --full, or with a method that chooses its own weights, there is none",
                fix=f"leave train.{knob} out, or train an adapter",
            )
    about = {
        "train.first_layer": train.first_layer > 0,
        "train.last_layer": train.last_layer is not None,
        "train.targets": bool(train.targets),
    }
    given = [knob for knob, changed in about.items() if changed]
    if not adapts and not train.full and given:
        raise UsageError(
            "chosen-by-the-method",
            what=f"{given[0]} chooses weights, and method {settings.method.name} chooses its own",
            why="only one of them can",
            fix=f"leave {given[0]} out, or add --full to train the weights that you choose",
        )
    last = last_block(train.last_layer, shape.layers)
    if not train.first_layer <= last < shape.layers:
        raise UsageError(
            "no-such-layer",
            what=f"there are no blocks {train.first_layer} to {last}: the model has {shape.layers}",
            why="train.first_layer and train.last_layer bound what is trained; blocks count from 0",
            fix=f"set them between 0 and {shape.layers - 1}, the first not above the last",
        )
    if train.init == "fila" and train.adapter:
        raise rewritten_base()


def _check_reach(settings: Settings, terms: Sequence[Term]) -> None:
    """Refuse terms that read below the lowest trained block, where no step changes anything."""
    first = settings.train.first_layer
    lowest = min((term.layer for term in terms if term.layer is not None), default=first)
    if lowest < first:
        raise UsageError(
            "reads-below-training",
            what=f"method {settings.method.name} reads block {lowest}, and training begins at "
            f"block {first}",
            why="what the blocks below train.first_layer say stays as it is, whatever is trained",
            fix=f"set train.first_layer to {lowest}, or let the method read block {first} or "
            "higher: [method] holds what can be set",
        )


def _check_mask(settings: Settings, wraps: GradientTransforms, *, adapts: bool) -> None:
    mask, name = wraps.choose, settings.mask.name
    if mask is None:
        return
    if settings.train.init == "fila":
        raise UsageError(
            "mask-with-fila",
            what=f"mask {name} and train.init = fila do not go together",
            why="both choose where to forget, and the mask would judge what FILA has moved",
            fix="choose one of the two",
        )
    if adapts and not mask.low_rank:
        raise UsageError(
            "mask-on-adapter",
            what=f"mask {name} chooses among the model's weights, and this run trains an adapter",
            why="a fresh adapter is zero: its single weights say nothing about the forget set yet",
            fix="add --full, or set mask.name to memflex, which chooses whole layers",
        )
    if settings.train.weight_decay:
        raise UsageError(
            "mask-with-decay",
            what=f"mask {name} and train.weight_decay do not go together",
            why="decay would move the weights that the mask keeps in place",
            fix="leave train.weight_decay out",
        )


def _check_retain(
    settings: Settings, wraps: GradientTransforms, method: Method, shape: Shape, streams: Streams
) -> None:
    data = [f"mask {settings.mask.name}"] if wraps.choose and wraps.choose.needs_retain else []
    data += ["train.init = fila"] if settings.train.init == "fila" else []
    terms = [f"combine {settings.combine.name}"] if wraps.combine else []
    if wraps.robust is not None and wraps.robust.needs_retain:
        terms.append(f"robust {settings.robust.name}")
    if (data or terms) and not streams.retain:
        raise _no_retain(
            (data + terms)[0], "there are no retain records", "name some with --retain FILE"
        )
    if terms and all(term.streams[0].side == "forget" for term in method.terms(shape)):
        why = f"method {settings.method.name} has no retain term here"
        raise _no_retain(terms[0], why, 'set retain = "nll" in [method]')


def _no_retain(what: str, why: str, fix: str) -> UsageError:
    return UsageError(
        "nothing-to-retain",
        what=f"{what} weighs forgetting against retaining",
        why=why,
        fix=fix,
    )


def needs_float32(settings: Settings) -> str:
    """Name what the settings ask for that works on float32 weights alone; empty if nothing.

    Raises:
        UsageError: No such wrapper or hyperparameter.
    """
    chosen = settings.robust
    if chosen.name == "auto":  # no method names one that needs it
        chosen = RobustSettings(name="none")
    robust = build_wrapper(ROBUST, chosen.name, chosen.parameters, what="robust")
    if robust is not None and robust.needs_float32:
        return f"robust {settings.robust.name}"
    return "train.init = fila" if settings.train.init == "fila" else ""


def _check_precision(settings: Settings, dtype: torch.dtype) -> None:
    wants = needs_float32(settings)
    if wants and dtype != torch.float32:
        raise UsageError(
            "needs-float32",
            what=f"{wants} needs float32 weights",
            why="what it adds to a weight is smaller than the step of a 16-bit format there",
            fix="leave out precision, or add --set precision=fp32",
        )
