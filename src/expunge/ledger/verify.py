"""Verification of a ledger: every row that was changed, by its number and kind, and what changed.

    row       hash of its content, signature, place in the chain, time, one text of its entry
    end       number and hash of the last row, as the signed head has them
    file      SHA-256 of every byte, as the signed head has it

A change that no row shows, such as one in unused space, is a change of the file.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from expunge.errors import InputError
from expunge.ledger.connection import connected, require_layout
from expunge.ledger.entries import EntryKind, OpeningEntry
from expunge.ledger.head import LedgerHead, head_path, read_head
from expunge.ledger.store import COLUMNS, START, StoredEntry, row_of, signed_part
from expunge.provenance.consistency import Problem
from expunge.provenance.signature import is_signed, key_fingerprint
from expunge.utils.io import AnyPath

_PATIENCE = (0.1, 0.3, 0.6)
"""Seconds to wait for the head of a writer that has committed."""
_NOT_READ = frozenset({"no-ledger", "no-access"})
"""Codes of errors that say nothing about the bytes of a ledger."""


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
    """Bytes of the file on the disk."""
    head: LedgerHead | None
    head_problem: str


def verify_ledger(
    path: AnyPath, *, signer: bytes | None = None, head: str = ""
) -> LedgerVerification:
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
    path = Path(path)
    try:
        found = _read(path)
    except InputError as error:
        return _unreadable(path, error)
    public, problems = _public_key(found, signer)
    # The signature of the last row covers all before it, as long as their chain holds.
    if next(_row_problems(found, public, thorough=False), None) is not None:
        problems += _row_problems(found, public, thorough=True)
    at_end, notes = _end_problems(path, found, public)
    problems += at_end
    if head and head not in {row.hash for row in found.rows}:
        problems.append(Problem(path=path.name, what="does not have the entry of --head"))
    return LedgerVerification(
        problems=tuple(problems),
        notes=tuple(notes),
        entries=len(found.rows),
        head=found.rows[-1].hash if found.rows else "",
        signer=key_fingerprint(public) if public else "",
    )


def _unreadable(path: Path, error: InputError) -> LedgerVerification:
    """Return what is said of a file that is no ledger: damage, where it once was one.

    Raises:
        InputError: It never was one, as far as its head tells.
    """
    if error.code in _NOT_READ:
        raise error
    try:
        head = read_head(path)
    except InputError:
        head = None
    newer = error.code == "newer-ledger" and head is not None and head.is_of(path.read_bytes())
    if head is None or newer:
        raise error
    problem = Problem(path=path.name, what=f"is damaged: {error.what}")
    return LedgerVerification(problems=(problem,), notes=(), entries=0, head="", signer="")


def _read(path: Path) -> _Snapshot:
    """Read file and head of one moment: while this has its lock, no entry is added."""
    with connected(path) as connection:
        connection.execute("BEGIN")
        # The first query takes the lock.
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        data = connection.serialize()
        require_layout(connection, path)
        rows, unreadable = _rows(connection)
        head, what = _head(path)
        for seconds in _PATIENCE:
            if head is None or not rows or rows[-1].sequence <= head.sequence:
                break
            time.sleep(seconds)  # a writer that has committed may still write its head
            head, what = _head(path)
        size = path.stat().st_size
        connection.execute("ROLLBACK")
    return _Snapshot(
        rows=tuple(rows),
        unreadable=tuple(unreadable),
        data=data,
        size=size,
        head=head,
        head_problem=what,
    )


def _head(path: Path) -> tuple[LedgerHead | None, str]:
    """Return the head, or what is wrong with it."""
    try:
        head = read_head(path)
    except InputError as error:
        return None, error.why
    return head, "" if head else "is missing: the end cannot be checked"


def _rows(connection: sqlite3.Connection) -> tuple[list[StoredEntry], list[int]]:
    """Return the rows, and the numbers of those that SQLite cannot read."""
    asked = f"SELECT {COLUMNS} FROM entries"
    try:
        return [row_of(row) for row in connection.execute(f"{asked} ORDER BY sequence")], []
    except sqlite3.DatabaseError:
        pass
    # One by one: a page that is damaged takes only its own rows away.
    last = connection.execute("SELECT max(sequence) FROM entries").fetchone()[0] or 0
    rows: list[StoredEntry] = []
    unreadable: list[int] = []
    for number in range(1, last + 1):
        try:
            row = connection.execute(f"{asked} WHERE sequence = ?", (number,)).fetchone()
        except sqlite3.DatabaseError:
            unreadable.append(number)
        else:
            rows += [] if row is None else [row_of(row)]
    return rows, unreadable


def _public_key(found: _Snapshot, signer: bytes | None) -> tuple[bytes, list[Problem]]:
    """Return the key that signed the rows, and whether it is not the one that must have.

    The first row and the head name it. One of them may have been changed, so the key is taken by
    which some rows are signed.
    """
    named = [] if signer is None else [signer]
    named += [] if found.head is None else [bytes.fromhex(found.head.public_key)]
    try:
        opening = found.rows[0].entry() if found.rows else None
    except ValueError:
        opening = None
    if isinstance(opening, OpeningEntry):
        named.append(bytes.fromhex(opening.public_key))
    some = (*found.rows[:2], *found.rows[-2:])
    fits = (k for k in named for r in some if _is_signed(r.hash, r.signature, k))
    public = next(fits, next(iter(named), b""))
    if signer in (None, public):
        return public, []
    what = f"is signed by another key, {key_fingerprint(public)}"
    return public, [Problem(path="entry 1 (ledger)", what=what)]


def _row_problems(found: _Snapshot, public: bytes, *, thorough: bool) -> Iterator[Problem]:
    """Yield what is wrong with each row, in their order.

    Args:
        found: The file.
        public: The key that must have signed.
        thorough: Check every signature; otherwise the last one alone.
    """
    for span in _spans(found.unreadable):
        yield Problem(path=span, what="cannot be read: bytes were changed")
    last = len(found.rows) - 1
    contents = [
        _content_problem(row, public, signed=not thorough and place != last)
        for place, row in enumerate(found.rows)
    ]
    whole = {row.sequence for row, what in zip(found.rows, contents, strict=True) if not what}
    top = max(whole, default=0) + 1
    expected, link, at = 1, START, ""
    for row, changed in zip(found.rows, contents, strict=True):
        number = row.sequence
        if changed and (number in whole or not expected <= number <= top):
            number = expected  # what was changed is the number itself
        for span in _spans(set(range(expected, number)).difference(found.unreadable)):
            yield Problem(path=span, what="is missing")
        what = changed or _place_problem(row, "" if number > expected else link, at, expected)
        if what:
            yield Problem(path=f"entry {number} ({row.kind})", what=what)
            link = ""  # what follows a changed row is no change itself
        else:
            link, at = row.link(), row.time
        expected = max(expected, number + 1)


def _spans(numbers: Iterable[int]) -> Iterator[str]:
    """Yield entries by number, those that follow each other as one."""
    for _, group in groupby(enumerate(sorted(numbers)), lambda each: each[1] - each[0]):
        run = [number for _, number in group]
        yield f"entry {run[0]}" if len(run) == 1 else f"entries {run[0]} to {run[-1]}"


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


def _place_problem(row: StoredEntry, link: str, at: str, expected: int) -> str:
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


def _end_problems(path: Path, found: _Snapshot, public: bytes) -> tuple[list[Problem], list[str]]:
    """Return where the file does not end, or is not byte for byte, as its head says; and notes."""
    head = found.head
    if head is None:
        return [Problem(path=head_path(path).name, what=found.head_problem)], []
    problems: list[Problem] = []
    if head.public_key != public.hex():
        what = "is signed by another key than the entries"
        problems.append(Problem(path=head_path(path).name, what=what))
    last = found.rows[-1].sequence if found.rows else 0
    if found.rows and head.ledger != found.rows[0].hash:
        problems.append(Problem(path="entry 1", what="is not the one that the signed head names"))
    end = [row.hash for row in found.rows if row.sequence == head.sequence]
    if last < head.sequence:
        what = f"is missing: {head.sequence - last} at the end were cut off"
        problems.append(Problem(path=f"entry {last + 1} and later", what=what))
    elif head.hash not in end:
        what = "is not the one that the signed head names"
        problems.append(Problem(path=f"entry {head.sequence}", what=what))
    if last > head.sequence:
        note = f"the last write was interrupted: {last - head.sequence} entries came after the head"
        return problems, [f"{note}; the next write mends it"]
    if found.size != head.size or not head.is_of(found.data):
        problems.append(Problem(path=path.name, what="is not byte for byte as its writer left it"))
    return problems, []
