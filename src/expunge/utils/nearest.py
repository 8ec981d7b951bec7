"""The path that was probably meant, for one that does not exist.

Apart from its users, which read data, models and run folders: all of them suggest in the same way.
"""

from difflib import get_close_matches
from pathlib import Path

ALIKE = 0.7
"""Least similarity of two names, 0 to 1, at which one is suggested for the other."""


def did_you_mean(reference: str, otherwise: str) -> str:
    """Return the remedy for a path that does not exist: the nearest that does, or `otherwise`."""
    near = nearest_path(reference)
    return otherwise if near is None else f"did you mean {near}?"


def nearest_path(reference: str, *, alike: float = ALIKE) -> Path | None:
    """Return the existing path whose name is nearest to one that does not exist.

    It is None where no name is near, and where the path does exist. Each folder on the way may be
    mistyped. Hidden files are never suggested.

    Args:
        reference: The path that does not exist.
        alike: Least similarity of each name to the one that is meant, 0 to 1.

    Example:
        >>> nearest_path("/no/such/folder") is None
        True
    """
    try:
        return _nearest(Path(reference).expanduser(), alike)
    except OSError:  # a name too long for a path, or a folder that is not ours to read
        return None


def _nearest(path: Path, alike: float) -> Path | None:
    if path.exists() or not path.name:
        return None
    parent = path.parent if path.parent.is_dir() else _nearest(path.parent, alike)
    if parent is None or not parent.is_dir():
        return None
    if (parent / path.name).exists():
        return parent / path.name
    names = sorted(each.name for each in parent.iterdir() if not each.name.startswith("."))
    near = get_close_matches(path.name, names, n=1, cutoff=alike)
    return parent / near[0] if near else None
