"""References to models: what a name or a path means, settled without loading anything.

Nothing here imports torch or sends a request, so that a mistyped folder is answered at once.
"""

import os
import re
from pathlib import Path
from typing import Any

from expunge.data.hub import hub_is_closed, why_unreachable
from expunge.errors import InputError
from expunge.utils.file_names import ADAPTER, CONFIG, GUARD, GUARDED, MODEL, RUN, SETTINGS, TRAINED
from expunge.utils.io import did_you_mean, nearest_path, read_json, require_no_special_files

_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
_MAIN = "main"
_MISTYPED = 0.8
"""Similarity from which on the name of a folder is meant, and not somebody's model on the Hub."""
_READABLE = "expunge reads config.json, a tokenizer and safetensors weights; never pickle"


def model_folder(reference: str | Path) -> Path:
    """Return the folder of the model that a run made; any other reference stays as it is.

    Runs of earlier versions hold the model themselves, and so do runs that made none.

    Args:
        reference: A run folder, or anything else that names a model.

    Example:
        >>> model_folder("org/model")
        PosixPath('org/model')
    """
    folder = Path(reference)
    if any((folder / mark).is_file() for mark in (TRAINED, SETTINGS)):
        return next((folder / n for n in (MODEL, GUARDED) if (folder / n).is_dir()), folder)
    return folder


def run_of_model(folder: Path) -> Path:
    """Return the run folder whose model folder this is; any other folder stays as it is.

    Example:
        >>> run_of_model(Path("no-such-run/model"))
        PosixPath('no-such-run/model')
    """
    whole = folder.resolve()
    if whole.name in (MODEL, GUARDED) and model_folder(whole.parent) == whole:
        return folder.parent if folder.name in (MODEL, GUARDED) else whole.parent
    return folder


def is_guard(reference: str) -> bool:
    """Tell whether a reference names a folder with rules around a model, and no model."""
    folder = model_folder(reference)
    return (folder / GUARD).is_file() and not (folder / CONFIG).is_file()


def base_of(folder: Path) -> str:
    """Return the reference of the model that a guard folder is for; beside it, if it lies there.

    Raises:
        InputError: The guard does not say which it is.
    """
    folder = model_folder(folder)
    return _beside(folder, _named_base(folder / GUARD))


def is_adapter(reference: str) -> bool:
    """Tell whether a model is an adapter over a base; a guard is none.

    Raises:
        InputError: As `split_reference`.
    """
    return not is_guard(reference) and split_reference(reference)[1] is not None


def is_laid_over(reference: str) -> bool:
    """Tell whether a model is an adapter over a base, or a guard around one, that can be removed.

    Its merged weights may be those of another reference, and yet it is attacked otherwise.

    Raises:
        InputError: As `split_reference`.
    """
    return is_guard(reference) or split_reference(reference)[1] is not None


def split_reference(reference: str) -> tuple[str, Path | None]:
    """Split a reference into its base and, where there is one, its adapter folder.

    Raises:
        InputError: The part after + is no adapter, an adapter names no base or itself, or the base
            is a guard, which would not act.
    """
    base, plus, adapter = reference.rpartition("+")
    if plus and not Path(reference).exists():
        return _unguarded(base), _adapter_folder(model_folder(adapter))
    folder = model_folder(reference)
    if folder != Path(reference):
        return split_reference(str(folder))
    if is_guard(reference):
        return split_reference(_unguarded(base_of(folder)))
    if (folder / ADAPTER).is_file() and not (folder / CONFIG).is_file():
        _require_end(folder)
        return _unguarded(_beside(folder, _named_base(folder / ADAPTER))), folder
    return reference, None


def _named_base(path: Path) -> str:
    """Return which base an adapter or a guard names; a name of the folder itself is none."""
    try:
        named = read_json(path)["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable(path.parent, f"{path.name} is not JSON that names a base") from error
    if not isinstance(named, str) or not named:
        raise unreadable(path.parent, f"{path.name} names no base")
    return named


def _beside(folder: Path, named: str) -> str:
    return str(folder / named) if (folder / named).exists() else named


def _require_end(folder: Path) -> None:
    """Refuse adapters that name each other, or themselves, as bases."""
    seen: set[Path] = set()
    while (folder / ADAPTER).is_file() and not (folder / CONFIG).is_file():
        if folder.resolve() in seen:
            raise unreadable(folder, "its base is this adapter itself, or one that lies over it")
        seen.add(folder.resolve())
        folder = Path(_beside(folder, _named_base(folder / ADAPTER)))


def require_no_guard(folder: Path) -> None:
    """Refuse weights beside a guard, which would be left out without a word.

    Beside an adapter, too: libraries would load the adapter and the base that it names, and not the
    weights that lie there.

    Raises:
        InputError: `unreadable-model`.
    """
    if not (folder / CONFIG).is_file():
        return
    if (folder / GUARD).is_file():
        raise unreadable(folder, f"{GUARD} lies beside weights: the guard would not act")
    if (folder / ADAPTER).is_file():
        raise unreadable(folder, f"{ADAPTER} lies beside weights: libraries load its base instead")


def beneath(reference: str) -> str | None:
    """Return the reference without its adapter or its guard; None where it has neither."""
    if is_guard(reference):
        return base_of(Path(reference))
    base, adapter = split_reference(reference)
    return None if adapter is None else base


def split_revision(reference: str) -> tuple[str, str]:
    """Return the name of a model and the revision to take, `main` where none is named."""
    if Path(reference).exists() or "@" not in reference:
        return reference, _MAIN
    name, _, revision = reference.rpartition("@")
    return name, revision


def require_model(reference: str, *, offline: bool, weights: bool = True) -> None:
    """Refuse a model that cannot be loaded, as far as files and names tell.

    Sends no request; of a name that is nowhere here, the Hub must be within reach.

    Args:
        reference: As for `expunge.models.loading.load`.
        offline: Whether the Hub may not be asked.
        weights: Whether its weights will be read, or its configuration and tokenizer alone.

    Raises:
        InputError: A folder or file is missing or holds no model; a name is that of a folder here,
            mistyped; the model is not on this machine and the network is off or does not answer.
    """
    base, adapter = split_reference(reference)
    if adapter is not None:
        require_model(base, offline=offline, weights=weights)
    elif Path(base).is_dir():
        _require_files(Path(base), weights=weights)
    elif os.path.lexists(base) and not base.endswith(".gguf"):
        raise unreadable(base, "a model is a folder or a GGUF file, and this is neither")
    else:
        require_place(base, offline=offline)


def require_adapter(reference: str) -> Path:
    """Refuse what is no adapter, and return the run folder that it belongs to, else its own.

    Raises:
        InputError: `no-adapter`: there is no such folder, or whole weights lie in it.
        UsageError: `link-in-run`: a run holds a link.
    """
    run = run_of_model(Path(reference))
    if any((run / name).is_file() for name in (RUN, SETTINGS, TRAINED)):
        require_no_special_files(run)
    if is_adapter(reference):
        return run
    if not run.exists():
        raise InputError(
            "no-adapter",
            what=f"there is no folder {reference}",
            why="an adapter is a folder on this machine, or BASE+ADAPTER",
            fix=did_you_mean(reference, "give its path, for example runs/latest"),
        )
    raise InputError(
        "no-adapter",
        what=f"{reference} holds no adapter",
        why="runs made with --adapter or --lora have one; others hold whole weights already",
        fix=f"load {model_folder(reference)} directly",
    )


def require_place(reference: str, *, offline: bool) -> None:
    """Refuse a name that is neither a path here nor can be one of a model on the Hub.

    `NAME@main` always means the Hub.

    Args:
        reference: A model without an adapter.
        offline: Whether the Hub may not be asked.

    Raises:
        InputError: It looks like a path and nothing is there, or nearly is the name of a model
            folder here; or no copy of it is on this machine, and the network is off or does not
            answer.
    """
    if reference.endswith(".gguf") and not Path(reference).is_file():
        raise InputError(
            "no-model",
            what=f"there is no file {reference}",
            why="a reference that ends in .gguf must be a file on this machine",
            fix=did_you_mean(reference, "check the path"),
        )
    if Path(reference).exists():
        return
    name = split_revision(reference)[0]
    if _HUB_ID.fullmatch(name) is None:
        raise _no_folder(reference, "nothing lies at that path")
    if _is_cached(name):
        return
    if name == reference and _first_part_is_here(reference):
        raise _no_folder(reference, "its first part is a folder here, so the Hub was not asked")
    near = nearest_path(reference, alike=_MISTYPED)
    if name == reference and near is not None and _holds_model(near):
        raise _no_folder(
            reference, "its name is nearly that of a model here; the Hub was not asked"
        )
    if offline or hub_is_closed():
        raise not_on_this_machine(reference)
    if (why := why_unreachable()) is not None:
        raise no_model(reference, why)


def no_model(reference: str, why: str) -> InputError:
    """Return the error for a name that is nothing here and nothing that the Hub sends."""
    return InputError(
        "no-model",
        what=f"no model {reference}: neither a path here nor reachable on the Hub",
        why=why,
        fix="check the spelling and the network, or give a local folder",
    )


def unreadable(folder: Path | str, why: str) -> InputError:
    """Return the error for a model on this machine that cannot be loaded."""
    what = f"the model in {folder} cannot be loaded"
    return InputError("unreadable-model", what=what, why=why, fix=_READABLE)


def not_on_this_machine(reference: str) -> InputError:
    """Return the error for a model of the Hub that may not be asked for."""
    return InputError(
        "model-offline",
        what=f"{reference} is not on this machine and the network is off",
        why="it is neither a path nor in the local Hugging Face cache",
        fix="download it once while online, or give a local folder",
    )


def _require_files(folder: Path, *, weights: bool) -> None:
    require_no_guard(folder)
    path = folder / CONFIG
    if not path.is_file():
        raise unreadable(folder, f"the folder holds no {CONFIG}")
    try:
        config: Any = read_json(path)
    except ValueError as error:
        raise unreadable(folder, f"{CONFIG} is not valid JSON") from error
    if not isinstance(config, dict) or not {"model_type", "auto_map"} & config.keys():
        raise unreadable(folder, f"{CONFIG} names no model_type")
    if weights and not _has_weights(folder):
        raise unreadable(folder, "the folder holds no safetensors weights")


def _has_weights(folder: Path) -> bool:
    return any(True for _ in folder.glob("*.safetensors*"))


def _holds_model(folder: Path) -> bool:
    folder = model_folder(folder)
    names = (CONFIG, ADAPTER, GUARD, TRAINED)
    return folder.is_dir() and any((folder / name).is_file() for name in names)


def _first_part_is_here(reference: str) -> bool:
    """Tell whether `a/b` stands beside a folder `a`: a mistyped path, not somebody's model."""
    first, *rest = Path(reference).parts
    return bool(rest) and Path(first).is_dir()


def _is_cached(name: str) -> bool:
    from huggingface_hub.constants import HF_HUB_CACHE  # after the settings have closed the Hub

    folder = f"models--{name.replace('/', '--')}"
    return (Path(HF_HUB_CACHE) / folder).is_dir()


def _no_folder(reference: str, why: str) -> InputError:
    hub = f" (a model of the Hub: {reference}@{_MAIN})" if _HUB_ID.fullmatch(reference) else ""
    return InputError(
        "no-model",
        what=f"there is no folder {reference}",
        why=why,
        fix=did_you_mean(reference, "check the path") + hub,
    )


def _adapter_folder(folder: Path) -> Path:
    if not (folder / ADAPTER).is_file():
        raise InputError(
            "no-adapter",
            what=f"{folder} holds no adapter",
            why=f"the part after + must be a folder with {ADAPTER}",
            fix="give the folder that PEFT or expunge wrote",
        )
    return folder


def _unguarded(base: str) -> str:
    if is_guard(base):
        raise InputError(
            "guard-beneath",
            what=f"{base}, which is to be a base, holds a guard around a model",
            why="its rules are for that model as it is: under an adapter or another guard they"
            " would be left out without a word",
            fix=f"name the model behind it, {base_of(Path(base))}, as BASE or BASE+ADAPTER; or"
            " judge the guard by itself",
        )
    return base
