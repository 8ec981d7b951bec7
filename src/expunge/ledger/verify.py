"""Verification of a ledger: every row that was changed, by its number and kind, and what changed.

    row       hash of its content, signature, place in the chain, time, one text of its entry
    end       number and hash of the last row, as the signed head has them
    file      SHA-256 of every byte, as the signed head has it

A change that no row shows, such as one in unused space, is a change of the file.
"""

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from expunge.errors import InputError
from expunge.ledger.connection import connected, require_layout
from expunge.ledger.entries import EntryKind, OpeningEntry
from expunge.ledger.head import LedgerHead, head_path, read_head
from expunge.ledger.store import COLUMNS, START, StoredEntry, signed_part
from expunge.provenance.consistency import Problem
from expunge.provenance.signature import is_signed, key_fingerprint

_PATIENCE = (0.1, 0.3, 0.6)
"""Seconds to wait for the head of a writer that has committed."""
_NOT_READ = frozenset({"no-ledger", "no-access"})
_FARTHEST = 100_000
"""Entries in a row that are named as missing, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerVerification:
    """What a verification found.

    Example:
        >>> LedgerVerification(problems=(), notes=(), entries=3, head="ab" * 32, signer="").ok
        True
    """

    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    entries: int
    head: str
    """Hash of the last entry. Whoever keeps it elsewhere can see later that none is gone."""
    signer: str
    """Fingerprint of the key that signed the first entry."""

    @property
    def ok(self) -> bool:
        """Whether nothing was changed."""
        return not self.problems


@dataclass(frozen=True, kw_only=True, slots=True)
class _Snapshot:
    """What was read of a file while nobody could write it."""

    rows: tuple[StoredEntry, ...]
    unreadable: tuple[int, ...]
    data: bytes
    size: int


def verify_ledger(path: Path, *, signer: bytes | None = None, head: str = "") -> LedgerVerification:
    """Check every row and every byte of a ledger.

    Args:
        path: Its file.
        signer: The public key that must have signed it; None: the key that its first entry names.
        head: Hash of an entry that must be in it, as an earlier verification printed it.

    Raises:
        InputError: `no-ledger`; `not-a-ledger`: there is no head beside it either.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from expunge.ledger.store import Ledger
        >>> from expunge.provenance.signature import SigningKey
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "ledger.db")
        ...     with Ledger(path, key=bytes(32), signing=SigningKey(seed=bytes(32))).writing():
        ...         pass
        ...     verify_ledger(path).ok
        True
    """
    name = path.name
    problems: list[Problem] = []
    known: LedgerHead | None = None
    try:
        known = read_head(path)
        if known is None:
            what = "is missing: the end cannot be checked"
            problems.append(Problem(path=head_path(path).name, what=what))
    except InputError as error:
        problems.append(Problem(path=head_path(path).name, what=error.why))
    try:
        found, known = _settled(path, known)
    except InputError as error:
        if known is None or error.code in _NOT_READ:
            raise
        if error.code == "newer-ledger" and known.is_of(path.read_bytes()):
            raise
        problems.append(Problem(path=name, what=f"is damaged: {error.what}"))
        return LedgerVerification(problems=tuple(problems), notes=(), entries=0, head="", signer="")
    public, other = _public_key(found.rows, known, signer)
    problems += other
    # The signature of the last row covers all before it, as long as their chain holds.
    in_rows = list(_row_problems(found, public, thorough=False))
    problems += list(_row_problems(found, public, thorough=True)) if in_rows else []
    at_end, notes = _end_problems(name, found, known)
    problems += at_end
    if head and head not in {row.hash for row in found.rows}:
        problems.append(Problem(path=name, what="does not have the entry of --head: it was cut"))
    return LedgerVerification(
        problems=tuple(problems),
        notes=tuple(notes),
        entries=len(found.rows),
        head=found.rows[-1].hash if found.rows else "",
        signer=key_fingerprint(public) if public else "",
    )


def _settled(path: Path, known: LedgerHead | None) -> tuple[_Snapshot, LedgerHead | None]:
    """Read the file; once again where a writer has committed and not yet written its head."""
    found = _read(path)
    for seconds in _PATIENCE:
        if known is None or not found.rows or found.rows[-1].sequence <= known.sequence:
            break
        time.sleep(seconds)
        known, found = read_head(path), _read(path)
    return found, known


def _read(path: Path) -> _Snapshot:
    with connected(path) as connection:
        connection.execute("BEGIN")
        # The first query takes a lock: from here on nobody writes.
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        data = connection.serialize()
        require_layout(connection, path)
        rows, unreadable = _rows(connection)
        size = path.stat().st_size
        connection.execute("ROLLBACK")
    return _Snapshot(rows=tuple(rows), unreadable=tuple(unreadable), data=data, size=size)


def _rows(connection: sqlite3.Connection) -> tuple[list[StoredEntry], list[int]]:
    """Return the rows, and the numbers of those that SQLite cannot read."""
    asked = f"SELECT {COLUMNS} FROM entries"
    try:
        return [_whole(row) for row in connection.execute(f"{asked} ORDER BY sequence")], []
    except sqlite3.DatabaseError:
        pass
    # One by one: a page that is damaged takes only its own rows away.
    last = connection.execute("SELECT max(sequence) FROM entries").fetchone()[0]
    rows: list[StoredEntry] = []
    unreadable: list[int] = []
    for number in range(1, last + 1):
        try:
            row = connection.execute(f"{asked} WHERE sequence = ?", (number,)).fetchone()
        except sqlite3.DatabaseError:
            unreadable.append(number)
        else:
            rows += [] if row is None else [_whole(row)]
    return rows, unreadable


def _whole(cells: tuple[object, ...]) -> StoredEntry:
    """Return a row; a cell that a changed byte made a number or a blob is text of another kind."""
    number, *texts = cells
    texts = [each if isinstance(each, str) else repr(each) for each in texts]
    return StoredEntry(int(str(number)), *texts)


def _public_key(
    rows: tuple[StoredEntry, ...], known: LedgerHead | None, signer: bytes | None
) -> tuple[bytes, list[Problem]]:
    """Return the key by which rows are checked, and whether the ledger names another one."""
    named = bytes.fromhex(known.public_key) if known is not None else b""
    try:
        opening = rows[0].entry() if rows else None
    except ValueError:
        opening = None
    if isinstance(opening, OpeningEntry):
        named = bytes.fromhex(opening.public_key)
    if signer is not None and named != signer:
        what = f"is signed by another key, {key_fingerprint(named) if named else 'unknown'}"
        return signer, [Problem(path="entry 1 (ledger)", what=what)]
    return named, []


def _row_problems(found: _Snapshot, public: bytes, *, thorough: bool) -> Iterator[Problem]:
    """Yield what is wrong with each row, in their order.

    Args:
        found: The file.
        public: The key that must have signed.
        thorough: Check every signature; otherwise the last one alone.
    """
    for number in found.unreadable:
        yield Problem(path=f"entry {number}", what="cannot be read: its bytes were changed")
    expected, link, at = 1, START, ""
    for row in found.rows:
        number = _number(row, expected)
        for absent in range(expected, number):
            if absent not in found.unreadable:
                yield Problem(path=f"entry {absent}", what="is missing")
        if number > expected:
            link = ""
        what = _content_problem(row, public, signed=not thorough and row is not found.rows[-1])
        what = what or _place_problem(row, link, at=at, expected=expected)
        if what:
            yield Problem(path=f"entry {row.sequence} ({row.kind})", what=what)
            link = ""  # what follows a changed row is no change itself
        else:
            link, at = row.link(), row.time
        expected = number + 1


def _number(row: StoredEntry, expected: int) -> int:
    """Return where a row stands; one that was moved far off counts as the next."""
    return row.sequence if expected <= row.sequence <= expected + _FARTHEST else expected


def _content_problem(row: StoredEntry, public: bytes, *, signed: bool) -> str:
    """Return what was changed in a row, by its hash and signature; empty for nothing.

    Args:
        row: The row.
        public: The key.
        signed: Take its signature for granted.
    """
    computed = row.computed()
    if computed == row.hash:
        if signed or _is_signed(row.hash, row.signature, public):
            return ""
        return "its signature was changed, or is by another key"
    if _is_signed(computed, row.signature, public):
        return "its hash was changed"
    if _is_signed(row.hash, row.signature, public):
        return f"its {_changed_part(row)} was changed: the signed hash is another one"
    return "it was changed: neither its hash nor its signature is that of its content"


def _place_problem(row: StoredEntry, link: str, *, at: str, expected: int) -> str:
    """Return what is wrong with a whole row at its place; empty for nothing.

    Args:
        row: The row.
        link: What it must have as `previous`; empty: the row before does not tell.
        at: Time of the row before.
        expected: Its number, at least.
    """
    if row.sequence < expected:
        return "it stands twice"
    if link and row.previous != link:
        return "it does not follow the entry before: one was changed, or put in"
    if row.time < at:
        return f"it is of an earlier time than the entry before, {at}"
    try:
        row.entry()
    except ValueError:
        return "it is signed, and not an entry that this version reads"
    return ""


def _changed_part(row: StoredEntry) -> str:
    """Name the part of a row that was changed, as far as the others tell."""
    if row.kind not in set(EntryKind):
        return "kind"
    try:
        row.entry()
    except (ValueError, TypeError):
        return "payload"
    return "number, time, payload or link"


def _is_signed(entry_hash: str, signature: str, public: bytes) -> bool:
    try:
        signed = bytes.fromhex(signature)
        # `fromhex` also takes capitals and spaces: only one text stands for a signature.
        return signed.hex() == signature and is_signed(public, signed, signed_part(entry_hash))
    except (ValueError, TypeError):
        return False


def _end_problems(
    name: str, found: _Snapshot, known: LedgerHead | None
) -> tuple[list[Problem], list[str]]:
    """Return where the file does not end, or is not byte for byte, as its head says; and notes."""
    if known is None or not found.rows:
        return [], []
    problems: list[Problem] = []
    first, last = found.rows[0], found.rows[-1]
    if known.ledger != first.hash:
        problems.append(Problem(path="entry 1", what="is not the one that the signed head names"))
    end = [row.hash for row in found.rows if row.sequence == known.sequence]
    if last.sequence < known.sequence:
        what = f"is missing: {known.sequence - last.sequence} at the end were cut off"
        problems.append(Problem(path=f"entry {last.sequence + 1} and later", what=what))
    elif known.hash not in end:
        what = "is not the one that the signed head names"
        problems.append(Problem(path=f"entry {known.sequence}", what=what))
    if last.sequence > known.sequence:
        count = last.sequence - known.sequence
        note = f"the last write was interrupted: {count} entries came after the signed head"
        return problems, [f"{note}; the next write mends it"]
    if found.size != known.size or not known.is_of(found.data):
        what = "is not byte for byte what its last writer left"
        problems.append(Problem(path=name, what=what))
    return problems, []
