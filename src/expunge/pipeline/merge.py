"""Merging: an adapter kept by `forget --adapter` becomes full weights, the deliverable."""

import os
from pathlib import Path

from expunge.config.resolve import CODE_VARIABLES, resolve
from expunge.errors import InputError, UsageError
from expunge.models.loading import load
from expunge.models.reference import ADAPTER, model_folder
from expunge.models.saving import save_model
from expunge.preparation.prepare import source_of
from expunge.utils.console import Console, SilentConsole


def merge(run: Path, *, out: Path, console: Console | None = None) -> Path:
    """Write the model that a run's adapter makes, as a loadable folder.

    Args:
        run: Run folder with an adapter.
        out: Folder of the merged model; must be new or empty.
        console: Where to say what happens; silent by default.

    Returns:
        `out`.

    Raises:
        InputError: The run holds no adapter.
        UsageError: `out` is in use.

    Example:
        >>> merge(Path("no-such-run"), out=Path("merged"))
        Traceback (most recent call last):
            ...
        expunge.errors.InputError: error[no-adapter]: no-such-run holds no adapter...
    """
    console = console or SilentConsole()
    adapter = model_folder(run)
    if not (adapter / ADAPTER).is_file():
        raise InputError(
            "no-adapter",
            what=f"{run} holds no adapter",
            why="only a run made with --adapter has one; other runs hold the merged model already",
            fix=f"load {adapter} directly",
        )
    if out.exists() and any(out.iterdir()):
        raise UsageError(
            "folder-in-use",
            what=f"{out} is not empty; nothing was changed there",
            why="a merged model is written into a folder of its own",
            fix="choose another folder with --out",
        )
    # Of the variables only those that name code: a run folder may not name any by itself.
    named = {name: os.environ[name] for name in CODE_VARIABLES if name in os.environ}
    settings = resolve({}, config=run / "config.toml", environ=named, start=run).settings
    merged = load(f"{settings.model}+{adapter}", source_of(settings))
    out.mkdir(parents=True, exist_ok=True)
    save_model(merged.network.model, merged.tokenizer, out)
    console.line("wrote", f"{out}/   merged weights, sha256 {merged.digest[:16]}")
    console.line("next", f"expunge audit {out} --against {run}")
    return out
