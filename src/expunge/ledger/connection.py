"""The SQLite file of the ledger: its layout, how it is opened, and what is wrong with another file.

Rollback journal, not write-ahead log: after a commit the one file holds everything, so its SHA-256
says something. `synchronous = EXTRA` also brings the end of the journal to the disk.
"""

import os
import sqlite3
import stat
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import fields
from pathlib import Path

from expunge.errors import InputError, ResourceError
from expunge.ledger.entries import ENTRY_CLASSES, Entry, OpeningEntry
from expunge.ledger.head import head_path
from expunge.utils.io import did_you_mean, disk_full, link_in_run, private

VERSION = 1
"""Of the layout: the number of `PRAGMA user_version`, and of the first entry."""
APPLICATION = 0x6578_706C
"""`expl` in ASCII: by this number a ledger is told from any other database."""
BUSY_SECONDS = 30.0
"""How long a writer waits for another one."""
_JOURNAL = "-journal"
_HEADER = 72
"""Bytes of SQLite's header up to the number of the application."""


def _view(entry_class: type[Entry]) -> str:
    """Return the view of one kind: the last entry of each id, with a column for each field."""
    kind = entry_class.kind
    columns = ", ".join(
        f"json_extract(payload, '$.{field.name}') AS \"{field.name}\""
        for field in fields(entry_class)
    )
    last = (
        f"SELECT max(sequence) FROM entries WHERE kind = '{kind}'"
        " GROUP BY json_extract(payload, '$.id')"
    )
    return (
        f"CREATE VIEW {kind}s AS SELECT sequence, time, {columns} FROM entries"
        f" WHERE sequence IN ({last})"
    )


def _refusal(action: str, condition: str = "") -> str:
    return (
        f"CREATE TRIGGER no_{action.lower()} BEFORE {action} ON entries {condition}"
        "BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END"
    )


LAYOUT = (
    "CREATE TABLE entries (sequence INTEGER PRIMARY KEY, time TEXT NOT NULL, kind TEXT NOT NULL,"
    " payload TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL, signature TEXT NOT NULL)",
    _refusal("UPDATE"),
    _refusal("DELETE"),
    # Also against INSERT OR REPLACE, which deletes without the trigger for that.
    _refusal(
        "INSERT",
        "WHEN NEW.sequence IS NOT (SELECT coalesce(max(sequence), 0) + 1 FROM entries) ",
    ),
    *(_view(each) for each in ENTRY_CLASSES if each is not OpeningEntry),
)
"""The statements that make an empty ledger."""


def ledger_path() -> Path:
    """Return the file of the ledger: `EXPUNGE_LEDGER`, or `expunge/ledger.db` in the user's data.

    The user's data lie in `XDG_DATA_HOME`, by default `~/.local/share`.
    """
    given = os.environ.get("EXPUNGE_LEDGER")
    if given:
        return Path(given)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "expunge" / "ledger.db"


def is_ledger(path: Path) -> bool:
    """Tell a ledger from any other file by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER)
    except OSError:
        return False
    return head[:15] == b"SQLite format 3" and head[-4:] == APPLICATION.to_bytes(4, "big")


@contextmanager
def connected(path: Path, *, make: bool = False) -> Generator[sqlite3.Connection]:
    """Open the file of a ledger for as long as the block runs.

    Args:
        path: The file.
        make: Make it, and its folder, for its owner only, where there is none.

    Raises:
        InputError: There is no ledger, or SQLite cannot read or write it.
        UsageError: `link-in-run`: it is a link, or has a second name.
        ResourceError: Another writer does not end, or the disk is full.
    """
    if make and not path.exists():
        private(path.parent)
        _touch(path)
    _require_regular(path)
    _require_begun(path, make=make)
    mode = "rw" if make or os.access(path, os.W_OK) else "ro"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_SECONDS)
        with closing(connection):
            _prepare(connection, path)
            yield connection
    except sqlite3.Error as error:
        raise _explained(path, error) from error


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    # Damaged bytes are compared, not refused: `verify` names the row.
    connection.text_factory = _text
    try:
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except UnicodeDecodeError:  # a message of SQLite that quotes a damaged name
        raise damaged(path, "SQLite cannot read its tables") from None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _touch(path: Path) -> None:
    # It exists where another writer was faster, and where it is a link to nothing.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))


def _require_regular(path: Path) -> None:
    """Refuse what is no file of its own: a folder, a link, a pipe, or nothing at all."""
    if path.is_dir():
        raise _not_a_file(path, "a folder")
    for each in (path, path.with_name(f"{path.name}{_JOURNAL}"), head_path(path)):
        if each.is_symlink() or (each.is_file() and each.stat().st_nlink > 1):
            raise link_in_run(each)
    if not path.exists():
        raise _no_ledger(path, f"there is no ledger {path}")
    if not stat.S_ISREG(path.stat().st_mode):
        raise _not_a_file(path, "no regular file")


def _not_a_file(path: Path, what: str) -> InputError:
    return InputError(
        "not-a-ledger",
        what=f"{path} is {what}",
        why="a ledger is one file",
        fix="name the file, for example --ledger ledger.db",
    )


def _require_begun(path: Path, *, make: bool) -> None:
    """Refuse an empty file: SQLite would take it for a new database, and write to it."""
    if path.stat().st_size:
        return
    if head_path(path).exists():
        raise damaged(path, "it is empty")
    if not make:
        raise _no_ledger(path, f"{path} is empty")


def is_empty(connection: sqlite3.Connection) -> bool:
    """Tell whether nothing was ever written to a file."""
    return connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None


def require_layout(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a database that is no ledger, or has another layout than this version reads.

    Raises:
        InputError: `not-a-ledger`, `newer-ledger` or `ledger-damaged`.
    """
    application, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("application_id", "user_version")
    )
    if application != APPLICATION:
        raise InputError(
            "not-a-ledger",
            what=f"{path} is another database",
            why="a ledger is what `expunge ledger` wrote",
            fix="check --ledger and EXPUNGE_LEDGER",
        )
    if version > VERSION:
        raise InputError(
            "newer-ledger",
            what=f"{path} has layout {version}; this version of expunge reads {VERSION}",
            why="a newer version of expunge wrote it",
            fix="use that version, or a newer one",
        )
    found = {row[0] for row in connection.execute("SELECT sql FROM sqlite_master")}
    if version != VERSION or found != set(LAYOUT):
        raise damaged(path, "its tables or triggers were changed")


def _no_ledger(path: Path, what: str) -> InputError:
    return InputError(
        "no-ledger",
        what=what,
        why="the first entry makes it",
        fix=did_you_mean(str(path), "expunge ledger add ..., or expunge ledger import RUN"),
    )


def damaged(path: Path, what: str = "it does not end as its last writer left it") -> InputError:
    """Return the error for a ledger that was changed or cut short."""
    return InputError(
        "ledger-damaged",
        what=f"{path}: {what}",
        why="it was changed or cut short after it was written, or its head is of another time",
        fix="`expunge ledger verify` names what was changed; restore file and head from a backup",
    )


def another_key(path: Path) -> InputError:
    """Return the error for a ledger of somebody else."""
    return InputError(
        "ledger-other-key",
        what=f"{path} is a ledger of another key",
        why="its entries are signed, and its records hashed, with keys that are not yours",
        fix="set EXPUNGE_SIGNING_KEY and EXPUNGE_KEY_FILE to its keys, or name another --ledger",
    )


def _explained(path: Path, error: sqlite3.Error) -> InputError | ResourceError:
    """Say what an error of SQLite means here."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return ResourceError(
            "ledger-busy",
            what=f"another process is writing {path}",
            why=f"it did not end within {BUSY_SECONDS:.0f} seconds; nothing was written",
            fix="run the same command again",
        )
    if name == "SQLITE_FULL":
        return disk_full(path)
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return InputError(
            "no-access",
            what=f"{path} cannot be opened or written ({error})",
            why="the system does not let this user write there, or in its folder",
            fix="check the permissions, or name another file with --ledger",
        )
    if name == "SQLITE_NOTADB":
        return InputError(
            "not-a-ledger",
            what=f"{path} is no SQLite file",
            why="a ledger is what `expunge ledger` wrote",
            fix="check --ledger and EXPUNGE_LEDGER, or restore the file from a backup",
        )
    return damaged(path, f"SQLite cannot read it ({error})")
