"""Merging: an adapter becomes full weights, which any program loads."""

import os
from pathlib import Path

from expunge.config.resolve import CODE_VARIABLES, resolve
from expunge.errors import UsageError
from expunge.models.loading import float32_source, load
from expunge.models.reference import model_folder, require_adapter, require_model
from expunge.models.saving import save_model
from expunge.preparation.prepare import source_of
from expunge.utils.console import Console, SilentConsole
from expunge.utils.file_names import SETTINGS
from expunge.utils.io import AnyPath


def merge(
    adapter: AnyPath, *, out: AnyPath, offline: bool = False, console: Console | None = None
) -> Path:
    """Write the model that an adapter makes, as a loadable folder.

    The adapter of a run of `forget` is merged in the precision of that run, any other in float32.

    Args:
        adapter: Run folder of `forget --adapter` or `train --lora`, adapter folder, or
            `BASE+ADAPTER`.
        out: Folder of the merged model; must be new or empty.
        offline: Never use the network.
        console: Where to say what happens; silent by default.

    Returns:
        `out`.

    Raises:
        InputError: There is no adapter, or its base cannot be loaded.
        UsageError: `out` is in use, or a folder holds a link.

    Example:
        >>> merge(Path("no-such-run"), out=Path("merged"))
        Traceback (most recent call last):
            ...
        expunge.errors.InputError: error[no-adapter]: there is no folder no-such-run...
    """
    console, reference, out = console or SilentConsole(), os.fspath(adapter), Path(out)
    run = require_adapter(reference)
    settings = None
    if (run / SETTINGS).is_file():
        # Of the variables only those that name code: a run folder may not name any by itself.
        named = {name: os.environ[name] for name in CODE_VARIABLES if name in os.environ}
        flags: dict[str, object] = {"offline": True} if offline else {}
        settings = resolve(flags, config=run / SETTINGS, environ=named, start=run).settings
    require_model(reference, offline=offline)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            "folder-in-use",
            what=f"{out} is not empty; nothing was changed there",
            why="a merged model is written into a folder of its own",
            fix="choose another folder with --out",
        )
    if settings is not None:
        merged = load(f"{settings.model}+{model_folder(run)}", source_of(settings))
    else:
        merged = load(reference, float32_source("auto", offline=offline))
    out.mkdir(parents=True, exist_ok=True)
    save_model(merged.network.model, merged.tokenizer, out)
    console.line("wrote", f"{out}/   merged weights, sha256 {merged.digest[:16]}")
    if settings is not None:
        console.line("next", f"expunge audit {out} --against {run}")
    return out
