"""The search space: which settings are tried for a method. One rule for all of them.

Tuned are the learning rate, the passes over the forget set, every strength of the method's own (a
positive float among its hyperparameters), its retain term, and, where there is an adapter, which
half of the blocks and which layers get one. A strength is drawn log-uniformly within a factor of
its default, so that no method has a hand-made space. The retain coefficient may grow further.
Values that the method refuses are drawn again.

What one matrix found for each method is kept for another matrix to run with. Settings that an audit
has chosen look better under that audit than under a new one: choose on a part, or on another
request, and run the whole with what was chosen.
"""

import math
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter
from torch import nn

from expunge.benchmarking.method_spec import parse_method_spec, require_named_code
from expunge.config.settings import Settings, TrainSettings
from expunge.errors import InputError, UsageError
from expunge.methods import build
from expunge.methods.base import Recipe, Shape
from expunge.methods.edits.base import Edit
from expunge.methods.guards.base import Guard
from expunge.models.loading import load_config, meta_model
from expunge.preparation.prepare import source_of
from expunge.utils.io import read_json

FACTOR = 8.0
"""Strengths and learning rates lie within this factor of their defaults, both ways."""
MOST_RETAIN = 128.0
"""The coefficient of the retain term goes up to this factor: facts known by heart need it."""
EPOCHS = (0.5, 1.0, 2.0)
RETAIN = ("nll", "kl")
MLP = ("gate_proj", "up_proj", "down_proj")
_ATTEMPTS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """A positive number, drawn log-uniformly."""

    low: float
    high: float
    default: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Categorical:
    """One of several values; None and an empty tuple stand for the method's own."""

    among: tuple[Any, ...]
    default: Any


class MethodParameters(NamedTuple):
    """Where a model can be given adapters."""

    layers: int
    width: int
    linear: frozenset[str]
    """Last names of its linear layers."""


def method_parameters(settings: Settings) -> MethodParameters:
    """Read a model's structure from its configuration; no weight is loaded.

    Raises:
        InputError: There is no such model.
    """
    config = load_config(settings.model, source_of(settings))
    model = meta_model(config)
    names = {
        name.rpartition(".")[2]
        for name, part in model.base_model.named_modules()
        if isinstance(part, nn.Linear)
    }
    text = config.get_text_config()
    return MethodParameters(text.num_hidden_layers, text.hidden_size, frozenset(names))


Space = Mapping[str, Range | Categorical]
"""Key path of the settings tree to what may be there."""


def space(
    name: str, settings: Settings, method_parameters: MethodParameters
) -> dict[str, Range | Categorical]:
    """Return the search space of a method.

    Args:
        name: The method.
        settings: The settings of the matrix; what they fix is not searched: hyperparameters of this
            method, and keys of `[train]` that differ from their defaults.
        method_parameters: Where the model can be given adapters.

    Raises:
        UsageError: There is no such method.
    """
    method = build(name, {})
    found: dict[str, Range | Categorical] = {}
    parameters = fields(method)  # pyright: ignore[reportArgumentType] - methods are dataclasses
    keeps = any(field.name == "retain" for field in parameters)
    for field in parameters:
        default = getattr(method, field.name)
        if isinstance(default, float) and default > 0:
            up = MOST_RETAIN if field.name == "alpha" and keeps else FACTOR
            found[f"method.{field.name}"] = _around(default, up=up)
        if field.name == "retain" and default != "none":
            among = tuple(dict.fromkeys((default, *RETAIN)))
            found["method.retain"] = Categorical(among=among, default=default)
    if not isinstance(method, Edit | Guard):
        shape = Shape(layers=method_parameters.layers, width=method_parameters.width)
        chooses = method.trains(shape) is not None
        found |= _training(method.recipe, settings.train, method_parameters, chooses=chooses)
    fixed = _fixed(name, settings)
    return {path: kind for path, kind in found.items() if path not in fixed}


def _training(
    recipe: Recipe, train: TrainSettings, method_parameters: MethodParameters, *, chooses: bool
) -> dict[str, Range | Categorical]:
    """Return what is searched of `[train]`; a method that chooses its weights has no adapter."""
    adapts = not train.full and not chooses
    epochs = recipe.epochs
    among = tuple(dict.fromkeys(max(1, round(epochs * share)) for share in EPOCHS))
    found: dict[str, Range | Categorical] = {
        "train.lr": _around(recipe.lr_lora if adapts else recipe.lr),
        "train.epochs": Categorical(among=among, default=epochs),
    }
    if adapts:
        middle = method_parameters.layers // 2 - 1
        halfway = (middle,) if middle >= max(0, train.first_layer) else ()
        mlp = (MLP,) if method_parameters.linear.issuperset(MLP) else ()
        found["train.last_layer"] = Categorical(among=(None, *halfway), default=None)
        found["train.targets"] = Categorical(among=((), *mlp), default=())
    return found


def _fixed(name: str, settings: Settings) -> set[str]:
    """Return the key paths that the settings fix for a method."""
    given = settings.method.parameters if settings.method.name == name else {}
    train, usual = settings.train, TrainSettings()
    keys = {key for key in TrainSettings.model_fields if getattr(train, key) != getattr(usual, key)}
    if "steps" in keys:
        keys.add("epochs")  # the steps decide
    return {f"method.{key}" for key in given} | {f"train.{key}" for key in keys}


def _around(default: float, *, up: float = FACTOR) -> Range:
    return Range(low=default / FACTOR, high=default * up, default=default)


def sample_settings(searched: Space, rng: random.Random) -> dict[str, Any]:
    """Draw one value for every key path; what is None stays the default and is left out."""
    found: dict[str, Any] = {}
    for path, kind in searched.items():
        if isinstance(kind, Range):
            value = math.exp(rng.uniform(math.log(kind.low), math.log(kind.high)))
            found[path] = float(f"{value:.3g}")
        else:
            found[path] = rng.choice(kind.among)
    return {path: value for path, value in found.items() if value is not None and value != ()}


def trials(
    name: str, settings: Settings, method_parameters: MethodParameters, *, count: int
) -> list[dict[str, Any]]:
    """Return the settings that are tried for a method: its defaults, then `count - 1` draws.

    The same name and number give the same settings on every machine, so that shards agree.
    """
    searched = space(name, settings, method_parameters)
    rng = random.Random(name)
    return [{}, *(accepted(name, lambda: sample_settings(searched, rng)) for _ in range(count - 1))]


def method_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters of the method among key paths of the settings tree."""
    prefix = "method."
    return {p.removeprefix(prefix): v for p, v in values.items() if p.startswith(prefix)}


def accepted(name: str, propose: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the first proposal whose hyperparameters the method accepts.

    Raises:
        UsageError: It refused a hundred in a row.
    """
    refused: UsageError | None = None
    for _ in range(_ATTEMPTS):
        found = propose()
        try:
            build(name, method_values(found))
        except UsageError as error:
            refused = error
            continue
        return found
    assert refused is not None, "without a refusal the first proposal is taken"
    raise refused


CHOSEN_FILE = "chosen.json"
"""Name below a matrix."""

Chosen = Mapping[str, Mapping[str, Any]]
"""Name of the table, such as `npo+sam`, to key paths of the settings tree, such as `train.lr`."""

_adapter: TypeAdapter[dict[str, dict[str, Any]]] = TypeAdapter(dict[str, dict[str, Any]])


def read_chosen(path: Path, *, named: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    """Read the settings that an earlier matrix chose.

    Args:
        path: The file.
        named: Methods that the command names: no others of the file may be code to import.

    Raises:
        InputError: There is no such file, or it holds something else.
        UsageError: It names a method that does not exist, a hyperparameter that it has not, or code
            that the command does not name.
    """
    if not path.is_file():
        raise InputError(
            "no-chosen-settings",
            what=f"there is no file {path}",
            why=f"{CHOSEN_FILE} is written beside the leaderboard of a matrix",
            fix=f"expunge bench report FOLDER writes it again; then give FOLDER/{CHOSEN_FILE}",
        )
    try:
        found = _adapter.validate_python(read_json(path))
    except ValueError as error:
        raise InputError(
            "malformed-chosen-settings",
            what=f"{path} does not hold chosen settings",
            why=error.what if isinstance(error, InputError) else str(error).splitlines()[0],
            fix='write it as {"npo": {"train.lr": 0.0001, "method.beta": 0.1}}',
        ) from None
    for name, values in found.items():
        require_named_code(name, values, origin=str(path), named=named)
        build(parse_method_spec(name).method, method_values(values))
    return found


def chosen_for(name: str, chosen: Chosen) -> dict[str, Any]:
    """Return what was chosen for a method; with wrappers, for itself or else for the bare method.

    Raises:
        UsageError: Nothing was chosen for it.
    """
    found = chosen.get(name, chosen.get(parse_method_spec(name).method))
    if found is None:
        raise UsageError(
            "nothing-chosen",
            what=f"no settings were chosen for {name}",
            why=f"they were chosen for {', '.join(chosen) or 'no method'}",
            fix="leave it out of --methods, or add it to the file, {} for its defaults",
        )
    return dict(found)


def together(before: Chosen | None, now: Chosen | None) -> Chosen | None:
    """Return the settings of now with those of before beside them, unless the two contradict."""
    if before is None or now is None:
        return now
    if any(now.get(name, values) != values for name, values in before.items()):
        return now
    return {**before, **now}


def added(before: Chosen, now: Chosen) -> list[str]:
    """Return the methods with settings that before had none for, not even of the bare method."""
    return [
        name for name in now if name not in before and parse_method_spec(name).method not in before
    ]
