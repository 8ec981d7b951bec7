"""The operator's key: records enter manifests only as keyed fingerprints.

A plain hash of a name or a telephone number can be guessed by trying all of them, so it would
itself be personal data. HMAC-SHA256 (RFC 2104) under a key that stays with the operator cannot.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from expunge.errors import InputError, UsageError
from expunge.evidence.store import Item

_KEY_BYTES = 32
_HEX_DIGITS = 32


def default_key_path() -> Path:
    """Return `~/.config/expunge/key`, where the key lies unless the caller names another file."""
    return Path.home() / ".config" / "expunge" / "key"


def key_path() -> Path:
    """Return the file of the operator's key: `EXPUNGE_KEY_FILE`, or the default."""
    given = os.environ.get("EXPUNGE_KEY_FILE")
    return Path(given) if given else default_key_path()


def existing_key(run: Path) -> bytes | None:
    """Return the operator's key for reading a run; None where there is no key.

    Raises:
        UsageError: As `operator_key`.
        InputError: As `operator_key`.
    """
    path = key_path()
    return operator_key(path, run=run) if path.exists() else None


def operator_key(path: Path, *, run: Path) -> bytes:
    """Read the operator's key; make one of 32 random bytes, for its owner only, on first use.

    Args:
        path: File of the key.
        run: Run folder that the key is used for; the key must lie outside it.

    Raises:
        UsageError: The file lies in the run folder, or others may read it.
        InputError: The file is not a key of 32 bytes.
    """
    if path.resolve().is_relative_to(run.resolve()):
        raise UsageError(
            "key-in-run",
            what=f"the operator key {path} lies inside the run folder",
            why="whoever gets the folder could test guesses against the fingerprints in it",
            fix="set EXPUNGE_KEY_FILE to a file outside the run folder",
        )
    if not path.exists():
        _create(path)
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise UsageError(
            "key-readable",
            what=f"other users may read the operator key {path}",
            why="whoever has the key can test guesses against the fingerprints in every manifest",
            fix=f"run `chmod 600 {path}`",
        )
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise InputError(
            "malformed-key",
            what=f"the operator key {path} holds {len(key)} bytes; a key has {_KEY_BYTES}",
            why="fingerprints made with another key match nothing that was written before",
            fix="restore the file from a backup, or remove it to begin with a new key",
        )
    return key


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # A link, not a rename: of two runs that start together, one makes the key for both.
        path.hardlink_to(temporary)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def fingerprint(text: str, key: bytes) -> str:
    """Return a text's keyed fingerprint: the first 32 hex digits of HMAC-SHA256 of its UTF-8."""
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:_HEX_DIGITS]


def record_fingerprint(question: str, answer: str, key: bytes) -> str:
    """Return the keyed fingerprint of a record: of its question and answer, a newline between."""
    return fingerprint(f"{question}\n{answer}", key)


def item_fingerprints(items: Iterable[Item], key: bytes) -> dict[str, list[str]]:
    """Return the keyed fingerprints of records by set (`forget`, `retain`, ...), in their order."""
    found: dict[str, list[str]] = {}
    for item in items:
        mark = record_fingerprint(item.question, item.answer, key)
        found.setdefault(item.split, []).append(mark)
    return found
