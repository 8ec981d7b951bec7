"""Files of a folder as a manifest names them: each by its path, with its digest and its size."""

import os
from collections.abc import Iterator, Set
from pathlib import Path

from expunge.utils.io import link_in_run, sha256_file


def covered(folder: Path, *, left_out: Set[str]) -> Iterator[Path]:
    """Yield every file and link of a folder, sorted by path.

    Args:
        folder: The folder.
        left_out: Names of files and folders directly in it that are not of interest.
    """
    found: list[Path] = []
    for place, names, files in os.walk(folder):
        here = Path(place)
        if here == folder:
            names[:] = [name for name in names if name not in left_out]
            files = [name for name in files if name not in left_out]
        found += [here / name for name in files]
        found += [here / name for name in names if (here / name).is_symlink()]
    yield from sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def name_in(folder: Path, path: Path) -> str:
    r"""Return the path of a file in a folder as text, one text for each path.

    A backslash is doubled, and a byte that is no UTF-8 is spelled out.

    Example:
        >>> print(name_in(Path("run"), Path("run") / os.fsdecode(b"a\xff")))
        a\xff
    """
    raw = os.fsencode(path.relative_to(folder).as_posix()).replace(b"\\", b"\\\\")
    return raw.decode("utf-8", "backslashreplace")


def entries(folder: Path, *, left_out: Set[str]) -> dict[str, dict[str, str | int]]:
    """Return SHA-256 and bytes of every file in a folder, by its path; arguments as `covered`.

    Raises:
        UsageError: The folder holds a link: what it points to could change without a trace.
    """
    return {name_in(folder, path): _entry(path) for path in covered(folder, left_out=left_out)}


def _entry(path: Path) -> dict[str, str | int]:
    if path.is_symlink():
        raise link_in_run(path)
    return {"sha256": sha256_file(path), "bytes": path.stat().st_size}
