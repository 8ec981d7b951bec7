"""The file of the ledger: SQLite, one table that only grows, and one signed head beside it.

    hash_n = SHA-256(sequence, time, kind, payload, previous_n)
    signature_n = Ed25519(hash_n)
    previous_n = SHA-256(hash_(n-1), signature_(n-1))

Every write is one transaction under the lock of the file, so two writers wait for each other. What
a command has acknowledged is on the disk. A process that is killed leaves the ledger as it was
before its transaction, or as it was after. The head is written after that, under the lock again: a
kill in between leaves one that is behind, which the next write mends.
"""

import json
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

from expunge.errors import InputError, UsageError
from expunge.ledger.connection import (
    APPLICATION,
    LAYOUT,
    VERSION,
    another_key,
    connected,
    damaged,
    is_empty,
    require_layout,
)
from expunge.ledger.entries import (
    ArtefactEntry,
    ClaimEntry,
    Entry,
    EntryKind,
    ModelEntry,
    OpeningEntry,
    RecheckEntry,
    RecipientEntry,
    RequestEntry,
    RunEntry,
    canonical,
    from_payload,
    to_payload,
)
from expunge.ledger.head import SCHEMA as HEAD_SCHEMA
from expunge.ledger.head import LedgerHead, read_head, write_head
from expunge.provenance.keys import fingerprint, key_path, operator_key
from expunge.provenance.signature import SigningKey, is_signed, signing_key
from expunge.provenance.training_facts import key_mark

START = "0" * 64
"""What the first entry has in place of the link to the one before."""
_SIGNED = "expunge.ledger.entry/1"


class StoredEntry(NamedTuple):
    """One row of the file."""

    sequence: int
    time: str
    kind: str
    payload: str
    previous: str
    hash: str
    signature: str

    def computed(self) -> str:
        """Return the hash that the row must have."""
        return _hash(self.sequence, self.time, self.kind, self.payload, self.previous)

    def link(self) -> str:
        """Return what the next row must have as `previous`: it covers hash and signature."""
        return _hash(self.hash, self.signature)

    def to_json(self) -> dict[str, object]:
        """Return the row for `expunge ledger export`: its entry as JSON, not as text."""
        # Bytes that are no text, after damage, are spelled out.
        row: dict[str, object] = {
            name: cell if isinstance(cell, int) else _spelled(cell)
            for name, cell in self._asdict().items()
        }
        with suppress(ValueError):  # text that was changed stays text: `verify` names it
            row["payload"] = json.loads(str(row["payload"]))
        return row

    def entry(self) -> Entry:
        """Return what the row says.

        Raises:
            ValueError: It is not an entry of its kind.
        """
        return from_payload(EntryKind(self.kind), self.payload)


def _hash(*parts: str | int) -> str:
    return sha256(canonical(parts).encode()).hexdigest()


def _spelled(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def row_of(cells: tuple[object, ...]) -> StoredEntry:
    """Return a row; a cell that a changed byte made a number or a blob is text of another kind."""
    number, *texts = cells
    texts = [each if isinstance(each, str) else repr(each) for each in texts]
    return StoredEntry(int(str(number)), *texts)


COLUMNS = ", ".join(StoredEntry._fields)


def signed_part(entry_hash: str) -> bytes:
    """Return the bytes that the signature of an entry is over."""
    return f"{_SIGNED}\n{entry_hash}".encode()


def own_ledger(path: Path) -> "Ledger":
    """Return a ledger that is written with this user's keys.

    Args:
        path: Its file; made by the first entry.

    Raises:
        UsageError: `no-signing-key`, or as `operator_key`.
        InputError: As `operator_key`.
    """
    key = signing_key(path)
    if key is None:
        raise UsageError(
            "no-signing-key",
            what="there is no key to sign entries of the ledger with",
            why="an entry that nobody signed could have been written by anyone",
            fix="run `expunge keys` once, then the same command again",
        )
    return Ledger(path, key=operator_key(key_path(), run=path), signing=key)


def now_utc() -> datetime:
    """Return the time of the clock, in UTC."""
    return datetime.now(UTC)


class LedgerWriter:
    """Adds entries within one transaction; `Ledger.writing` makes it.

    Args:
        connection: In a transaction that holds the lock.
        path: The file, for messages.
        last: The last row of the file; None: it is empty.
        key: Of the keyed hashes.
        signing: The key that signs.
        clock: Returns the time in UTC.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        last: StoredEntry | None,
        *,
        key: bytes,
        signing: SigningKey,
        clock: Callable[[], datetime],
    ) -> None:
        self.key = key
        self.added = 0
        self._connection = connection
        self._path = path
        self._last = last
        self._signing = signing
        self._clock = clock
        self._current: dict[EntryKind, dict[str, Entry]] = {}

    def keyed(self, text: str) -> str:
        """Return the keyed hash by which the ledger knows a text; empty for an empty text."""
        return fingerprint(text, self.key) if text else ""

    def current(self, kind: EntryKind) -> dict[str, Entry]:
        """Return the entries of a kind by id, each as it stands now."""
        if kind not in self._current:
            self._current[kind] = by_id(read_rows(self._connection, kind), self._path)
        return self._current[kind]

    def models(self) -> dict[str, ModelEntry]:
        """Return all models by digest."""
        found = self.current(EntryKind.MODEL).values()
        return {each.digest: each for each in found if isinstance(each, ModelEntry)}

    def add(self, entry: Entry) -> str:
        """Add an entry and return its id: a new one, or that of the entry that it amends.

        Raises:
            UsageError: `not-for-the-ledger`; `clock-backwards`: the last entry is of a later time.
            InputError: `unknown-model`, `unknown-entry`: it names what the ledger does not have.
        """
        held = self.current(entry.kind)
        self._require_known(entry)
        if not entry.id:
            entry = replace(entry, id=f"{entry.kind}-{len(held) + 1}")
        elif entry.id not in held:
            raise unknown_entry(entry.id)
        last = self._last
        row = StoredEntry(
            sequence=1 if last is None else last.sequence + 1,
            time=self._time(),
            kind=str(entry.kind),
            payload=to_payload(entry),
            previous=START if last is None else last.link(),
            hash="",
            signature="",
        )
        row = row._replace(hash=row.computed())
        row = row._replace(signature=self._signing.sign(signed_part(row.hash)).hex())
        places = ", ".join("?" * len(row))
        self._connection.execute(f"INSERT INTO entries ({COLUMNS}) VALUES ({places})", row)
        self._last = row
        self.added += 1
        held[entry.id] = entry
        return entry.id

    def _time(self) -> str:
        now = self._clock().astimezone(UTC).isoformat(timespec="seconds")
        if self._last is not None and now < self._last.time:
            raise UsageError(
                "clock-backwards",
                what=f"the clock says {now}; the last entry is of {self._last.time}",
                why="the times of entries must not go back, or nobody could trust any of them",
                fix="set the clock and repeat the command; if the last entry is wrong, begin a new"
                " ledger with --ledger and keep both",
            )
        return now

    def _require_known(self, entry: Entry) -> None:
        """Refuse an entry that names a model or an entry that is not there."""
        digests, ids = named_by(entry)
        for digest in filter(None, digests):
            if digest not in self.models():
                raise InputError(
                    "unknown-model",
                    what=f"the ledger has no model {digest[:12]}",
                    why="what is said of a model that nobody entered leads nowhere",
                    fix=f"expunge ledger add model {digest} --made base, or import its run",
                )
        for name in filter(None, ids):
            kind = name.partition("-")[0]
            if kind not in set(EntryKind) or name not in self.current(EntryKind(kind)):
                raise unknown_entry(name)


def named_by(entry: Entry) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the digests of models and the ids of other entries that an entry names."""
    match entry:
        case ModelEntry():
            return (entry.parent,), ()
        case RequestEntry():
            return (entry.model,), ()
        case RunEntry():
            return (entry.original, entry.model), (entry.request,)
        case ClaimEntry():
            return (entry.model, entry.original, *entry.golds), (entry.run,)
        case RecheckEntry():
            return (entry.model,), (entry.claim,)
        case ArtefactEntry():
            return (entry.model,), (entry.request,)
        case RecipientEntry():
            return (), (entry.request, entry.artefact)
        case _:
            return (), ()


def unknown_entry(name: str) -> InputError:
    """Return the error for an id that the ledger does not have."""
    return InputError(
        "unknown-entry",
        what=f"the ledger has no entry {name}",
        why="ids are chosen by the ledger: kind and number, as in request-12",
        fix="see `expunge ledger show` for the ids",
    )


class LedgerEnds(NamedTuple):
    """First and last row of a file."""

    first: StoredEntry
    last: StoredEntry


class Ledger:
    """The books of one operator: a file that only grows.

    Args:
        path: The file; made by the first entry.
        key: The operator's key, for keyed hashes.
        signing: The key that signs entries; None: the ledger is only read.
        clock: Returns the time in UTC.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from expunge.ledger.entries import EntryKind, ModelEntry, ModelOrigin
        >>> from expunge.provenance.signature import SigningKey
        >>> with TemporaryDirectory() as folder:
        ...     keys = {"key": bytes(32), "signing": SigningKey(seed=bytes(32))}
        ...     ledger = Ledger(Path(folder, "ledger.db"), **keys)
        ...     with ledger.writing() as writer:
        ...         name = writer.add(ModelEntry(digest="ab" * 32, made=ModelOrigin.BASE))
        ...     (name, [each.id for each in ledger.current(EntryKind.MODEL)])
        ('model-1', ['model-1'])
    """

    def __init__(
        self,
        path: Path,
        *,
        key: bytes = b"",
        signing: SigningKey | None = None,
        clock: Callable[[], datetime] = now_utc,
    ) -> None:
        self.path = path
        self.key = key
        self._signing = signing
        self._clock = clock

    @contextmanager
    def writing(self, *, make: bool = True) -> Generator[LedgerWriter]:
        """Add entries in one transaction: all of them are in the file afterwards, or none.

        Args:
            make: Make the ledger where there is none.

        Raises:
            InputError: The file is no ledger, is damaged, or has another key or a newer layout.
            UsageError: There is no key; or the file is a link.
            ResourceError: Another writer does not end, or the disk is full.
        """
        signing = self._signing
        if signing is None:
            raise UsageError(
                "no-signing-key",
                what="this ledger was opened without a key",
                why="every entry is signed",
                fix="run `expunge keys` once, then open the ledger with that key",
            )
        with connected(self.path, make=make) as connection:
            with _transaction(connection):
                if is_empty(connection) and read_head(self.path) is None:
                    self._lay_out(connection, signing)
            with _transaction(connection):
                last = self._checked(connection, signing)
                writer = self._writer(connection, last, signing)
                yield writer
            if writer.added:
                with _transaction(connection):
                    self._seal(connection, ends_of(connection, self.path), signing)

    def rows(self, kind: EntryKind | None = None) -> list[StoredEntry]:
        """Return the rows of the file in their order, of one kind or of all.

        Raises:
            InputError: There is no ledger, or the file is something else.
        """
        with connected(self.path) as connection:
            require_layout(connection, self.path)
            return read_rows(connection, kind)

    def is_as_left(self) -> bool:
        """Tell whether the file is, byte for byte, what its last writer left, by its signed head.

        It costs little, and does not say whose the head is: `verify_ledger` does.

        Raises:
            InputError: There is no ledger, or the file is something else.
        """
        with connected(self.path) as connection:
            require_layout(connection, self.path)
            try:
                head = read_head(self.path)
            except InputError:
                return False
            return head is not None and _is_of(head, connection, self.path)

    def current(self, kind: EntryKind) -> list[Entry]:
        """Return the entries of a kind as they stand now, in the order of their ids.

        Raises:
            InputError: As `rows`; `ledger-damaged`: a row cannot be read.
        """
        return list(by_id(self.rows(kind), self.path).values())

    def _lay_out(self, connection: sqlite3.Connection, signing: SigningKey) -> None:
        """Make the table, and the entry that says whose ledger it is."""
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        for statement in LAYOUT:
            connection.execute(statement)
        opening = OpeningEntry(
            schema=VERSION,
            public_key=signing.public.hex(),
            key_mark=key_mark(self.key),
            nonce=token_hex(16),
        )
        self._writer(connection, None, signing).add(opening)

    def _writer(
        self, connection: sqlite3.Connection, last: StoredEntry | None, signing: SigningKey
    ) -> LedgerWriter:
        return LedgerWriter(
            connection, self.path, last, key=self.key, signing=signing, clock=self._clock
        )

    def _checked(self, connection: sqlite3.Connection, signing: SigningKey) -> StoredEntry:
        """Return the last row, once the file is of this key and ends as its head says."""
        require_layout(connection, self.path)
        head = read_head(self.path)
        ends = ends_of(connection, self.path)
        opening = opening_of(ends.first, self.path)
        if opening.public_key != signing.public.hex() or opening.key_mark != key_mark(self.key):
            raise another_key(self.path)
        if not is_intact(ends.last, signing.public):
            raise damaged(self.path, f"entry {ends.last.sequence} was changed")
        if head is None and ends.last.sequence == 1:
            # A new file, whose first entry has no head yet. From here on, to have none is damage.
            self._seal(connection, ends, signing)
            return ends.last
        if head is None:
            raise damaged(self.path, "its signed head is missing")
        row = connection.execute("SELECT hash FROM entries WHERE sequence = ?", (head.sequence,))
        if (head.ledger, head.public_key) != (ends.first.hash, opening.public_key):
            raise damaged(self.path, "the head is that of another ledger")
        if row.fetchone() != (head.hash,):
            raise damaged(self.path)
        if head.sequence == ends.last.sequence and not _is_of(head, connection, self.path):
            raise damaged(self.path, "bytes of the file were changed")
        return ends.last

    def _seal(self, connection: sqlite3.Connection, ends: LedgerEnds, signing: SigningKey) -> None:
        """Write the head of the file as it is on the disk; in a transaction that changes nothing.

        Its lock keeps others from writing. The file is not read by its name: to close it would
        release the lock of this process.
        """
        data = connection.serialize()
        head = LedgerHead(
            schema=HEAD_SCHEMA,
            ledger=ends.first.hash,
            sequence=ends.last.sequence,
            hash=ends.last.hash,
            size=len(data),
            sha256=sha256(data).hexdigest(),
            public_key=signing.public.hex(),
        )
        write_head(self.path, head, signing)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Generator[None]:
    """Hold the lock of the file; what was written is kept if the block ends well."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _is_of(head: LedgerHead, connection: sqlite3.Connection, path: Path) -> bool:
    """Tell whether a head is that of a file, every byte and none behind the last page."""
    return head.size == path.stat().st_size and head.is_of(connection.serialize())


def read_rows(connection: sqlite3.Connection, kind: EntryKind | None) -> list[StoredEntry]:
    """Return the rows of a connection in their order, of one kind or of all."""
    asked = "" if kind is None else "WHERE kind = ? "
    given = () if kind is None else (str(kind),)
    rows = connection.execute(f"SELECT {COLUMNS} FROM entries {asked}ORDER BY sequence", given)
    return [row_of(row) for row in rows]


def entries_of(rows: Iterable[StoredEntry], path: Path) -> Iterator[tuple[StoredEntry, Entry]]:
    """Yield rows with their entries.

    Raises:
        InputError: `ledger-damaged`: a row is not an entry of its kind.
    """
    for row in rows:
        try:
            entry = row.entry()
        except ValueError:
            raise damaged(path, f"entry {row.sequence} ({row.kind}) was changed") from None
        yield row, entry


def by_id(rows: Iterable[StoredEntry], path: Path) -> dict[str, Entry]:
    """Return entries by id, each as its last row has it, in the order of their ids.

    Raises:
        InputError: As `entries_of`.
    """
    return {entry.id: entry for _, entry in entries_of(rows, path)}


def ends_of(connection: sqlite3.Connection, path: Path) -> LedgerEnds:
    """Return the first and the last row of a file.

    Raises:
        InputError: `ledger-damaged`: there is none.
    """
    asked = f"SELECT {COLUMNS} FROM entries ORDER BY sequence"
    first = connection.execute(f"{asked} ASC LIMIT 1").fetchone()
    last = connection.execute(f"{asked} DESC LIMIT 1").fetchone()
    if first is None or last is None:
        raise damaged(path, "its entries are gone")
    return LedgerEnds(row_of(first), row_of(last))


def opening_of(row: StoredEntry, path: Path) -> OpeningEntry:
    """Return what the first row says.

    Raises:
        InputError: `ledger-damaged`: it is something else.
    """
    try:
        opening = row.entry()
    except ValueError:
        opening = None
    if not isinstance(opening, OpeningEntry):
        raise damaged(path, "entry 1 was changed")
    return opening


def is_intact(row: StoredEntry, public: bytes) -> bool:
    """Tell whether a row has the hash of its content, and the signature of a key."""
    try:
        signature = bytes.fromhex(row.signature)
        return row.hash == row.computed() and is_signed(public, signature, signed_part(row.hash))
    except (ValueError, TypeError):  # bytes that are no text, or no text at all
        return False
