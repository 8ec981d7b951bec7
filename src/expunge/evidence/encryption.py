"""The seal: evidence at rest that only the operator can read.

AES-256-GCM (NIST SP 800-38D) under a key of its own for every run, derived by HKDF-SHA256
(RFC 5869) from the operator's key and a random salt that lies in the evidence folder. The name of
a file is authenticated with its content, so no file can take the place of another. Without the
operator's key the content is lost; with it gone from everywhere, it is lost for good.
"""

import os
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from expunge.errors import InputError
from expunge.utils.io import read_table, write_json

NAME = "seal.json"
"""File in the evidence folder that says that it is sealed, and how."""

SHARED = "store.json"
"""File of a folder of evidence that runs share; it says until when that is kept."""

SUFFIX = ".sealed"
"""What the name of a sealed file ends in."""

_SCHEMA = "expunge.seal/1"
_NONCE = 12
_INFO = b"expunge evidence"


@dataclass(frozen=True, slots=True, repr=False)
class Seal:
    """The key of one evidence folder; it is never shown."""

    key: bytes

    @classmethod
    def new(cls, folder: Path, operator: bytes) -> "Seal":
        """Return the seal of a folder, made with a fresh salt where there is none yet."""
        path = folder / NAME
        if not path.is_file():
            salt = b64encode(os.urandom(32)).decode()
            write_json(path, {"schema": _SCHEMA, "cipher": "AES-256-GCM", "salt": salt})
        return cls.of(folder, operator)

    @classmethod
    def of(cls, folder: Path, operator: bytes) -> "Seal":
        """Return the seal of a sealed folder.

        Args:
            folder: The evidence folder.
            operator: The operator's key, 32 bytes.

        Raises:
            InputError: The seal has another layout than this version reads.
        """
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        row = read_table(folder / NAME)
        if row.get("schema") != _SCHEMA:
            raise InputError(
                "seal-schema",
                what=f"the evidence is sealed by schema {row.get('schema')!r}",
                why=f"this version opens {_SCHEMA!r}",
                fix="use the version of expunge that wrote it",
            )
        try:
            salt = b64decode(row["salt"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                "damaged-evidence",
                what=f"{folder / NAME} holds no salt",
                why="without it no key opens the evidence",
                fix="restore the folder from a copy, or run the audit again in another folder",
            ) from error
        return cls(HKDF(algorithm=SHA256(), length=32, salt=salt, info=_INFO).derive(operator))

    def close(self, data: bytes, *, name: str) -> bytes:
        """Return the sealed content of a file: a fresh nonce of 12 bytes, then the ciphertext."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE)
        return nonce + AESGCM(self.key).encrypt(nonce, data, name.encode())

    def open(self, data: bytes, *, name: str) -> bytes:
        """Return the content of a sealed file.

        Raises:
            InputError: The key is another one, or the file was changed or renamed.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            return AESGCM(self.key).decrypt(data[:_NONCE], data[_NONCE:], name.encode())
        except (InvalidTag, ValueError):  # the latter where it is shorter than a nonce
            raise InputError(
                "seal-broken",
                what=f"{name}{SUFFIX} cannot be opened",
                why="the operator's key is another one, or the file was changed or renamed",
                fix="set EXPUNGE_KEY_FILE to the key that the run was made with",
            ) from None


def locked(folder: Path) -> InputError:
    """Return the error of a reader who has no key."""
    return InputError(
        "evidence-sealed",
        what=f"the evidence in {folder.name} is sealed, and no operator key was given",
        why="it holds the very records that were to be forgotten",
        fix="set EXPUNGE_KEY_FILE to the key that the run was made with",
    )


def kept_until(folder: Path) -> date:
    """Return the date from which the evidence that runs share is to be destroyed.

    Raises:
        InputError: The folder does not say.
    """
    try:
        return date.fromisoformat(read_table(folder / SHARED)["expires"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "not-json",
            what=f"{folder / SHARED} names no date",
            why="the file was cut short or changed, or another program wrote it",
            fix="remove the folder by hand; runs that need it make it again",
        ) from error
