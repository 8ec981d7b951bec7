"""Opening logs: JSON, gzipped or not, or the four files of a TOFU folder."""

import gzip
import json
import math
import zlib
from pathlib import Path
from typing import Any

from expunge.errors import InputError


def load(path: Path) -> dict[str, Any]:
    """Read one JSON object; of a folder, its `*.json` files by name.

    NaN and infinities, which Python's json writes, are read as they stand; readers leave them out.

    Raises:
        InputError: There is no such file, it is not JSON, or not an object.
    """
    if path.is_dir():
        whole = path / "eval_log_aggregated.json"
        if whole.is_file():
            return load(whole)
        found = {each.name: load(each) for each in sorted(path.glob("*.json"))}
        if found:
            return found
        raise _unreadable(path, "the folder holds no .json file")
    try:
        data = path.read_bytes()
        document = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    except OSError as error:
        raise _unreadable(path, error.strerror or "it cannot be opened") from None
    except (ValueError, EOFError, zlib.error):
        raise _unreadable(path, "it is not JSON, or not all of it is there") from None
    if not isinstance(document, dict):
        raise _unreadable(path, "it holds a list or a single value, not an object")
    return document


def number(value: object) -> float | None:
    """Return a finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def broken(path: Path | str, field: str) -> InputError:
    """Return the error for a log whose field is missing or holds something else."""
    return InputError(
        "broken-log",
        what=f"{path}: `{field}` is missing or not of the usual form",
        why="the number cannot be recomputed from this log",
        fix="write the log again with the tool that it came from",
    )


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        "unreadable-log",
        what=f"cannot read the evaluation log {path}",
        why=why,
        fix="give the JSON file that the evaluation wrote",
    )
