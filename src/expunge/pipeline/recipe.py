"""How an original was trained by another program: a recipe file, or the run of TRL or PEFT.

TRL, PEFT and the Trainer of transformers write what a repeated training needs, but for its data:

    adapter_config.json              base model, rank, alpha, target modules
    checkpoint-N/trainer_state.json  passes, steps, learning rates

The file training_args.bin is a pickle, so it is never read. What only it holds (weight decay, seed,
form of the learning-rate schedule) takes our defaults, and the result says that it is a new model.

From the recipe, a training of ours or an adapter follows the base model, where it can be known.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from expunge.config.resolve import parsed
from expunge.config.settings import FinetuneSettings, Settings
from expunge.data.readers import read
from expunge.errors import ExpungeError, InputError, UsageError
from expunge.models.loading import load
from expunge.models.reference import split_reference
from expunge.models.transformer import Network
from expunge.preparation.prepare import Prepared
from expunge.provenance.training_facts import read_trained_run, training_of
from expunge.utils.file_names import ADAPTER
from expunge.utils.io import read_json

STATE = "trainer_state.json"
"""What the Trainer of transformers writes into every checkpoint."""
_PLAIN = {"use_dora": False, "modules_to_save": None, "layer_replication": None, "bias": "none"}
"""Keys of an adapter that is plain LoRA, with the values they have then."""


def recipe_of(settings: Settings) -> FinetuneSettings | None:
    """Return how the original was trained; None where neither a recipe nor its data are named.

    Args:
        settings: `recipe` is a TOML file or the folder of a run; `trained_on` names the data of
            the run. Without a recipe the adapter of the original is that folder.

    Raises:
        InputError: `incomplete-recipe`, `no-training-run`, `adapter-of-another-kind`.
        UsageError: `no-training-data`: a folder is named without its data.
    """
    named = Path(settings.recipe) if settings.recipe is not None else None
    if named is not None and not named.is_dir():
        return read_recipe(named)
    base, adapter = split_reference(settings.model)
    folder = named or adapter
    if not settings.trained_on:
        if named is None:
            return None
        raise UsageError(
            "no-training-data",
            what=f"{named} does not hold the data of its training",
            why="TRL and PEFT write no data beside the model",
            fix="name the files with --trained-on",
        )
    if folder is None:
        raise InputError(
            "no-training-run",
            what="the data of the training is named, but not its recipe",
            why=f"{settings.model} is no adapter whose folder could tell it",
            fix="name the folder of the run, or a training.toml, with --recipe",
        )
    found = read_trainer_run(folder, settings.trained_on, offline=settings.offline)
    # The base that the user names is here; the one that the adapter names may lie elsewhere.
    return found if adapter is None else found.model_copy(update={"model": base}).anywhere()


def base_of_recipe(settings: Settings) -> str | None:
    """Return the base model that a recipe names, whatever else it lacks; None without one."""
    if settings.recipe is None:
        return None
    path = Path(settings.recipe)
    if path.is_dir():
        return _base(path)
    named = parsed(path).get("model")
    return named if isinstance(named, str) else None


def read_recipe(path: Path) -> FinetuneSettings:
    """Read the recipe of a training from a TOML file.

    Raises:
        InputError: `incomplete-recipe`: base, data, passes or learning rate are not named, or a key
            is unknown.
    """
    values = parsed(path)
    table = values.get("train")
    train = table if isinstance(table, dict) else {}
    missing = [key for key in ("model", "data") if not values.get(key)]
    missing += [f"train.{key}" for key in ("epochs", "lr") if not train.get(key)]
    if missing:
        raise _incomplete(path, missing)
    try:
        return FinetuneSettings.model_validate(values).anywhere()
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            "incomplete-recipe",
            what=f"{path}: `{'.'.join(map(str, first['loc']))}` has a value that is not allowed",
            why=first["msg"][0].lower() + first["msg"][1:],
            fix="compare it with the training.toml that `expunge train` writes",
        ) from None


def read_trainer_run(
    folder: Path, data: Sequence[str], *, offline: bool = False
) -> FinetuneSettings:
    """Read the recipe of a LoRA training from the folder that TRL, PEFT or the Trainer wrote.

    Args:
        folder: The output folder, one of its checkpoints, or the adapter beside them.
        data: What the run was trained on: files, folders, Hub ids.
        offline: Never use the network.

    Returns:
        The recipe. The batch follows from passes, steps and the number of records, so gradient
        accumulation and several processes are counted.

    Raises:
        InputError: `incomplete-recipe`: a file or an entry is missing. `adapter-of-another-kind`:
            the adapter is no plain LoRA.
    """
    adapter, state = _newest(folder, ADAPTER), _newest(folder, STATE)
    missing = [name for name, path in ((ADAPTER, adapter), (STATE, state)) if path is None]
    if adapter is None or state is None:
        raise _incomplete(folder, missing)
    try:
        return _recipe_of(folder, adapter, state, data, offline=offline)
    except ExpungeError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            "incomplete-recipe",
            what=f"the recipe cannot be read from {adapter} and {state}",
            why=f"an entry is of another kind than the Trainer writes ({type(error).__name__})",
            fix="name another checkpoint, or write a training.toml",
        ) from error


def _recipe_of(
    folder: Path, adapter: Path, state: Path, data: Sequence[str], *, offline: bool
) -> FinetuneSettings:
    shape, log = _object(adapter), _object(state)
    _require_plain(adapter, shape)
    rates = [row["learning_rate"] for row in log.get("log_history", ()) if "learning_rate" in row]
    passes, steps = float(log.get("num_train_epochs") or 0), int(log.get("max_steps") or 0)
    needed = {
        "base_model_name_or_path": shape.get("base_model_name_or_path"),
        "num_train_epochs": passes,
        "max_steps": steps,
        "learning_rate": rates,
    }
    if missing := [name for name, value in needed.items() if not value]:
        raise _incomplete(folder, missing)
    records = len(read(tuple(data), offline=offline).records)
    train: dict[str, Any] = {
        "rank": shape["r"],
        "alpha": _alpha(shape),
        "targets": _targets(shape),
        **_blocks(shape),
        "epochs": max(1, math.ceil(passes)),
        "lr": max(rates),
        "batch": max(1, math.ceil(records * passes / steps)),
        "warmup": _warmup(log["log_history"], steps),
    }
    values = {"model": _base(adapter.parent), "data": tuple(data), "train": train}
    return FinetuneSettings.model_validate(values).anywhere()


def _base(folder: Path) -> str | None:
    """Return the base of the adapter of a run; paths are relative to the adapter."""
    adapter = _newest(folder, ADAPTER)
    named = None if adapter is None else _object(adapter).get("base_model_name_or_path")
    if adapter is None or not isinstance(named, str):
        return None
    beside = adapter.parent / named
    return str(beside) if beside.exists() else named


def _newest(folder: Path, name: str) -> Path | None:
    """Return a file of a run: in its folder, its newest checkpoint, or the folder above."""
    checkpoints = sorted(folder.glob("checkpoint-*"), key=_step, reverse=True)
    beside = sorted(folder.parent.glob("checkpoint-*"), key=_step, reverse=True)
    places = (folder, *checkpoints, folder.parent, *beside)
    return next((place / name for place in places if (place / name).is_file()), None)


def _step(checkpoint: Path) -> int:
    found = re.search(r"(\d+)$", checkpoint.name)
    return int(found[1]) if found else -1


def _object(path: Path) -> Mapping[str, Any]:
    try:
        found: Any = read_json(path)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(
            "incomplete-recipe",
            what=f"{path} is not a JSON object",
            why="the recipe of the training was to come from this file",
            fix="name another checkpoint, or write a training.toml",
        )
    return found


def _require_plain(path: Path, shape: Mapping[str, Any]) -> None:
    other = [key for key, plain in _PLAIN.items() if shape.get(key, plain) not in (plain, None)]
    if shape.get("peft_type", "LORA") != "LORA" or not shape.get("r") or other:
        raise InputError(
            "adapter-of-another-kind",
            what=f"{path} describes an adapter that `retrain` cannot repeat",
            why=f"it is no plain LoRA ({', '.join(other) or shape.get('peft_type')})",
            fix="train again with the program that made it, or leave --trained-on out to erase",
        )


def _alpha(shape: Mapping[str, Any]) -> float:
    alpha, rank = float(shape.get("lora_alpha", 8)), int(shape["r"])
    # Rank-stabilised LoRA scales by alpha / sqrt(r) instead of alpha / r.
    return alpha * math.sqrt(rank) if shape.get("use_rslora") else alpha


def _targets(shape: Mapping[str, Any]) -> tuple[str, ...]:
    targets = shape.get("target_modules") or ()
    if targets == "all-linear":
        return ()
    return (targets,) if isinstance(targets, str) else tuple(sorted(targets))


def _blocks(shape: Mapping[str, Any]) -> dict[str, int]:
    layers = shape.get("layers_to_transform")
    if layers is None:
        return {}
    chosen = [layers] if isinstance(layers, int) else list(layers)
    return {"first_layer": min(chosen), "last_layer": max(chosen)}


def _warmup(history: Sequence[Mapping[str, Any]], steps: int) -> float:
    """Return the share of the steps before the peak; the log may hold only every tenth step."""
    rates = [(row["learning_rate"], -row["step"]) for row in history if "learning_rate" in row]
    return min(0.5, max(0, -max(rates)[1] - 1) / steps)


def _incomplete(path: Path, missing: Sequence[str]) -> InputError:
    return InputError(
        "incomplete-recipe",
        what=f"{path} lacks {', '.join(missing)}",
        why="a training can only be repeated by what it was: a guess would make another model",
        fix='write a training.toml: model = "BASE", data = ["FILE"] and, in [train], epochs and lr',
    )


def base_of_original(settings: Settings) -> str | None:
    """Return the reference of the base model: named, by training, by recipe, beneath an adapter.

    Raises:
        InputError: A training or a recipe that is named cannot be read.
        UsageError: `two-bases`: the user names another one than these do.
    """
    known = _recorded_base(settings)
    if None not in (settings.base, known) and settings.base != known:
        raise UsageError(
            "two-bases",
            what=f"the base is {settings.base}, and {known} by the original itself or its recipe",
            why="how hard a text is for the base decides how unlikely its answer becomes",
            fix="leave out --base, or name the merged weights as the original",
        )
    return settings.base or known


def _recorded_base(settings: Settings) -> str | None:
    run = training_of(settings.model)
    if run is not None:
        return read_trained_run(run).settings.model
    if settings.recipe is not None:
        return base_of_recipe(settings)
    base, adapter = split_reference(settings.model)
    return None if adapter is None else base


def base_network(prepared: Prepared, vocabulary: int) -> Network | None:
    """Return the network of the base model; None where it is not known, or has other tokens.

    Args:
        prepared: The inputs of the run.
        vocabulary: Number of tokens of the original.

    Raises:
        InputError: A training or a recipe that is named cannot be read; `base-differs`: what the
            user names as the base has other tokens.
    """
    reference = base_of_original(prepared.settings)
    if reference is None:
        return None
    network = load(reference, prepared.source).network
    if network.vocabulary == vocabulary:
        return network
    if prepared.settings.base is None:
        return None
    raise _no_base(reference, prepared, why=f"its vocabulary has {network.vocabulary} tokens")


def base_weights(
    prepared: Prepared, original: Network
) -> Callable[[], Mapping[str, Tensor]] | None:
    """Return what loads the weights of the base model; None where it is not known.

    Args:
        prepared: The inputs of the run.
        original: The network of the original, whose shapes the base must have.
    """
    reference = base_of_original(prepared.settings)
    if reference is None:
        return None

    def weights() -> Mapping[str, Tensor]:
        base = load(reference, prepared.source).network.model.state_dict()
        wanted = {name: tensor.shape for name, tensor in original.model.state_dict().items()}
        if {name: tensor.shape for name, tensor in base.items()} != wanted:
            raise _no_base(reference, prepared, why="its tensors have other names or shapes")
        return base

    return weights


def _no_base(reference: str, prepared: Prepared, *, why: str) -> InputError:
    return InputError(
        "base-differs",
        what=f"{reference} is no base of {prepared.settings.model}",
        why=why,
        fix="name the model that the training started from",
    )
