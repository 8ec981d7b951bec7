"""Request files: where one is found, its tables, and what its relative paths mean."""

import re
import tomllib
from pathlib import Path
from typing import Any

from expunge.errors import UsageError

FILE_NAME = "expunge.toml"
WORDS = ("auto", "none")
"""Words that stand where paths do, and are none."""


def find_upward(start: Path) -> Path | None:
    """Return the nearest `expunge.toml` in a folder or above it."""
    folder = start.resolve()
    candidates = (parent / FILE_NAME for parent in (folder, *folder.parents))
    return next((path for path in candidates if path.is_file()), None)


def parsed(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UsageError: `config-missing` or `invalid-toml`.
    """
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(
            "config-missing",
            what=f"cannot read {path}: {error.strerror or type(error).__name__}",
            why="the settings of this command were to come from this file",
            fix="check the path given by --config or EXPUNGE_CONFIG",
        ) from error
    except UnicodeDecodeError as error:
        what, why = f"{path}: not UTF-8 (byte {error.start})", "TOML files are UTF-8 text"
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        what = f"{path}:{line[1]}: not valid TOML" if line else f"{path}: not valid TOML"
        why = str(error)[0].lower() + str(error)[1:]
    raise UsageError(
        "invalid-toml",
        what=what,
        why=why,
        fix='text stands in quotes, lists in brackets: forget = ["secrets.jsonl"]',
    )


def beside(folder: Path, value: object) -> object:
    """Take relative paths that exist beside a file from there; leave words and others alone."""
    if isinstance(value, list):
        return [beside(folder, item) for item in value]
    if not isinstance(value, str) or not value or value in WORDS:
        return value
    path, here = folder / value, folder.resolve()
    try:
        inside = path.exists() and path.resolve() not in (here, *here.parents)
    except OSError:
        return value
    # Where both mean the same file, the shorter spelling reads better in messages.
    return str(path) if inside and path.resolve() != Path(value).resolve() else value
