"""Files that are either whole or absent: atomic writes, JSON Lines, digests.

A path that does not exist: which one was probably meant.
"""

import errno
import hashlib
import json
import os
import secrets
import stat
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any

from expunge.errors import InputError, ResourceError, UsageError

AnyPath = str | os.PathLike[str]
"""A path as people give it in Python."""
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors of a full disk, or of a user's share of it."""
_PART = ".part"
ALIKE = 0.7
"""Least similarity of two names, 0 to 1, at which one is suggested for the other."""


@contextmanager
def atomic(path: Path, *, owner_only: bool = False) -> Generator[IO[bytes]]:
    """Open a temporary file beside `path` and rename it there when the block ends well.

    A reader sees the old content or the new, never a part. A crash leaves `path` as it was. After
    it the file is on the disk under its name, also when the power fails.

    Args:
        path: The file.
        owner_only: Let nobody else read it; otherwise the umask says who may, as for any new file.

    Raises:
        ResourceError: The disk is full; `path` is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not `mkstemp`, whose files are the owner's alone: to widen them, the umask would have to be
    # asked for, which sets it for all threads.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_PART}")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        handle = os.open(temporary, flags, 0o600 if owner_only else 0o666)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno not in NO_SPACE:
            raise
        raise disk_full(path) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def private(folder: Path) -> Path:
    """Return a folder for personal data; where there is none, make one for its owner only.

    One that is there keeps its mode: whoever made it has said who may read it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def allocate(path: Path, size: int) -> None:
    """Take the space that a file of `size` bytes needs, so that it can be mapped and filled.

    A map of a file with holes ends the process without a word when the disk is full.

    Raises:
        ResourceError: There is no such space; the file is gone.
    """
    try:
        with path.open("ab") as file:
            if sys.platform == "linux" and size:
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        path.unlink(missing_ok=True)
        if error.errno not in NO_SPACE:
            raise
        raise disk_full(path) from error


def sync_folder(folder: Path) -> None:
    """Return once the names of the files in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot do it for folders
            raise
    finally:
        os.close(handle)


def synced(path: Path) -> None:
    """Return once what was written to a file, or to a map of it, is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def special_files_below(folder: Path) -> list[Path]:
    """Return the links, pipes, sockets and devices below a folder, sorted; none is opened."""
    every = (
        Path(here) / name for here, folders, files in os.walk(folder) for name in (*folders, *files)
    )
    return sorted(path for path in every if _is_special(path.lstat().st_mode))


def _is_special(mode: int) -> bool:
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def require_no_special_files(folder: Path) -> None:
    """Refuse a folder with a link or a pipe in it, before anything there is read or written.

    Raises:
        UsageError: `link-in-run`.
    """
    for path in special_files_below(folder):
        raise link_in_run(path)


def link_in_run(path: Path) -> UsageError:
    """Return the error for a link, or a pipe, in a folder whose files must lie in it."""
    return UsageError(
        "link-in-run",
        what=f"{path} is a link, or no ordinary file",
        why="what lies outside the folder would be read or overwritten, and could change unseen",
        fix="put a copy of the file in its place, or remove it, then run the command again",
    )


def open_own(path: Path) -> IO[str]:
    """Open a file for reading and appending, make it where there is none; never follow a link.

    Raises:
        UsageError: `link-in-run`: it is a link, has a second name, or is no regular file.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        raise link_in_run(path) from error
    about = os.fstat(handle)
    if stat.S_ISREG(about.st_mode) and about.st_nlink <= 1:
        return os.fdopen(handle, "a+", encoding="utf-8")
    os.close(handle)
    raise link_in_run(path)


def sweep(folder: Path) -> None:
    """Remove what writers that were killed have left below `folder`; nobody may write there now."""
    for path in folder.rglob(f".*{_PART}"):
        path.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes, *, owner_only: bool = False) -> None:
    """Write `data` to `path`, atomically; `owner_only` as for `atomic`."""
    with atomic(path, owner_only=owner_only) as file:
        file.write(data)


def write_text(path: Path, text: str, *, owner_only: bool = False) -> None:
    """Write `text` as UTF-8 to `path`, atomically; `owner_only` as for `atomic`."""
    write_bytes(path, text.encode(), owner_only=owner_only)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON to `path`, atomically; refuses NaN and infinities."""
    write_text(path, json_text(value))


def json_text(value: object) -> str:
    """Return the one text that `write_json` writes of a value."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_jsonl(path: Path, rows: Iterable[object]) -> None:
    """Write one JSON value a line to `path`, atomically; refuses NaN and infinities."""
    write_bytes(path, jsonl(rows))


def jsonl(rows: Iterable[object]) -> bytes:
    """Return rows as JSON Lines in UTF-8; refuses NaN and infinities."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    return "".join(f"{line}\n" for line in lines).encode()


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON is what it is; callers validate
    """Read one JSON value from `path`.

    Raises:
        InputError: `not-json`: it is cut short, changed, or something else.
    """
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _not_json(path) from error


def read_table(path: Path) -> dict[str, Any]:
    """Read a JSON object from `path`.

    Raises:
        InputError: `not-json`: it is something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise _not_json(path)
    return value


def _not_json(path: Path) -> InputError:
    return InputError(
        "not-json",
        what=f"{path} is not the JSON that was written there",
        why="the file was cut short or changed, or another program wrote it",
        fix="restore the folder from a copy, or run the command that wrote it again",
    )


def read_jsonl(path: Path) -> list[Any]:
    """Read JSON Lines from `path`."""
    return parse_jsonl(path.read_bytes())


def expanded(reference: str) -> Path:
    """Return a path with `~` and `~user` at its beginning resolved; a file of that name wins.

    Example:
        >>> expanded("~no-such-user/data.jsonl")
        PosixPath('~no-such-user/data.jsonl')
    """
    path = Path(reference)
    try:
        return path if path.exists() else path.expanduser()
    except (RuntimeError, OSError):  # no such user, or a name that no path can have
        return path


def printable(text: str) -> str:
    """Return a text whose control characters are spelled out, so that a terminal obeys none.

    Example:
        >>> print(printable("id" + chr(27) + "[2J"))
        id\\x1b[2J
    """
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode()
        for each in text
    )


def parse_jsonl(data: bytes) -> list[Any]:
    """Read JSON Lines. Splits on newline only: records may hold U+0085 and other separators."""
    return [json.loads(line) for line in data.decode().split("\n") if line]


def is_part(path: Path) -> bool:
    """Tell whether a file was being written by `atomic` when a process died, or still is."""
    return path.name.startswith(".") and path.name.endswith(_PART)


def disk_full(path: Path) -> ResourceError:
    """Return the error for a file that finds no space."""
    return ResourceError(
        "disk-full",
        what=f"no space left while writing {path}",
        why="the file was not replaced; everything written before it is intact",
        fix="free some space, then run the same command again: it resumes",
    )


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def sha256_json(value: object) -> str:
    """Return the hex SHA-256 of a value's canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


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
        return _nearest(expanded(reference), alike)
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
