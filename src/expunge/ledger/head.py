"""The signed head: where the ledger ended after its last write, in a file beside it.

The chain of entries proves that none was changed or left out in the middle. It cannot prove that
none was cut off at the end. The head can: it has number and hash of the last entry, and the SHA-256
of the whole file, so that not one byte of it is without effect.
"""

from dataclasses import asdict, dataclass
from glob import escape
from hashlib import sha256
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from expunge.errors import InputError
from expunge.ledger.entries import canonical
from expunge.provenance.signature import SigningKey, is_signed
from expunge.utils.io import is_part, json_text, link_in_run, write_text

SCHEMA = "expunge.ledger-head/1"
_SUFFIX = ".head"
_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerHead:
    """The end of a ledger, as its last writer left it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    schema: str
    ledger: _Hash
    """Hash of the first entry: which ledger this is."""
    sequence: int
    hash: _Hash
    """Of the last entry."""
    size: int
    """Bytes."""
    sha256: _Hash
    """Of the whole file."""
    public_key: _Hash
    signature: Annotated[str, Field(pattern=r"^([0-9a-f]{128})?$")] = ""

    def signed_bytes(self) -> bytes:
        """Return what the signature is over: every other field."""
        row = {name: value for name, value in asdict(self).items() if name != "signature"}
        return canonical(row).encode()

    @property
    def fits(self) -> bool:
        """Whether the signature is that of these fields by the key that they name."""
        public, signature = bytes.fromhex(self.public_key), bytes.fromhex(self.signature)
        return is_signed(public, signature, self.signed_bytes())

    def is_of(self, data: bytes) -> bool:
        """Tell whether these are the bytes of the file that it was written for."""
        return self.size == len(data) and self.sha256 == sha256(data).hexdigest()


_adapter = TypeAdapter(LedgerHead)


def head_path(ledger: Path) -> Path:
    """Return the file of a ledger's head.

    Example:
        >>> head_path(Path("ledger.db")).name
        'ledger.db.head'
    """
    return ledger.with_name(f"{ledger.name}{_SUFFIX}")


def write_head(ledger: Path, head: LedgerHead, key: SigningKey) -> None:
    """Sign a head and write it beside its ledger, atomically.

    Args:
        ledger: The file of the ledger.
        head: The head; its signature is made here.
        key: The key of the ledger. The caller has its lock.
    """
    row = asdict(head)
    row["signature"] = key.sign(head.signed_bytes()).hex()
    path = head_path(ledger)
    # What writers that were killed have left; whoever writes a head has the lock of the ledger.
    for part in path.parent.glob(f".{escape(path.name)}.*"):
        if is_part(part):
            part.unlink(missing_ok=True)
    write_text(path, json_text(row), owner_only=True)


def read_head(ledger: Path) -> LedgerHead | None:
    """Read the head of a ledger; None where there is none.

    Raises:
        InputError: `ledger-head`: the file holds something else, or was changed.
        UsageError: `link-in-run`: it is a link.
    """
    path = head_path(ledger)
    if path.is_symlink():
        raise link_in_run(path)
    if not path.is_file():
        return None
    try:
        data = path.read_bytes()
        head = _adapter.validate_json(data)
        is_whole = head.schema == SCHEMA and json_text(asdict(head)).encode() == data and head.fits
    except (ValidationError, ValueError):
        is_whole = False
    else:
        if is_whole:
            return head
    raise InputError(
        "ledger-head",
        what=f"{path} is not the signed head of a ledger",
        why="the file was changed or cut short, or another version wrote it",
        fix="restore it from a backup; it must be of the same moment as the ledger, or older",
    )
