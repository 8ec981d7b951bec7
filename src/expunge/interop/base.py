"""One number of a peer beside ours, and the opening of logs: JSON, gzipped or not, or a folder."""

import gzip
import json
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from expunge.errors import InputError

Better = Literal["higher", "lower", "gold"]
"""Which way is better; `gold` when the aim is what a model that never saw the data gives."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerNumber:
    """A number as the peer names and counts it, and what ours would be."""

    name: str
    """The peer's name of it, with the model or task where the log has several."""
    value: float
    """The peer's number, unchanged."""
    metric: str = ""
    """Our id of the nearest metric; empty when there is none."""
    ours: float | None = None
    """The same evidence by our definition and direction; None when the log does not allow it."""
    better: Better
    """Direction of the peer's number."""
    note: str = ""
    """What was converted, or why the two differ (trap ids are those of docs/metrics.md)."""


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
    if path.exists() and not path.is_file():  # a pipe may never end
        raise _unreadable(path, "it is no ordinary file")
    try:
        data = path.read_bytes()
        document = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    except OSError as error:
        raise _unreadable(path, error.strerror or "it cannot be opened") from None
    except (ValueError, RecursionError, EOFError, zlib.error):
        raise _unreadable(path, "it is not JSON, or not all of it is there") from None
    if not isinstance(document, dict):
        raise _unreadable(path, "it holds a list or a single value, not an object")
    return document


def number(value: object) -> float | None:
    """Return a finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer of hundreds of digits
        return None


def broken(path: Path | str, field: str) -> InputError:
    """Return the error for a log whose field is missing or holds something else."""
    return InputError(
        "broken-log",
        what=f"{path}: `{field}` is missing or not of the usual form",
        why="the number cannot be recomputed from this log",
        fix="write the log again with the tool that it came from",
    )


def broken_log(path: Path, cause: Exception) -> InputError:
    """Return the error for a log from which no number follows, whatever its fields are called."""
    return InputError(
        "broken-log",
        what=f"{path}: its numbers cannot be computed ({type(cause).__name__})",
        why="a field is of another form, or a number is beyond all that a model can give",
        fix="write the log again with the tool that it came from",
    )


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        "unreadable-log",
        what=f"cannot read the evaluation log {path}",
        why=why,
        fix="give the JSON file that the evaluation wrote",
    )
