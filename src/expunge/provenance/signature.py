"""Signatures: who wrote a manifest. Ed25519 (RFC 8032) over the bytes of `manifest.json`.

The manifest names every file by its digest, so its signature covers the whole folder. It says who
wrote the folder, and that nothing was changed since. It does not say that what was written is true.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from expunge.errors import InputError, UsageError
from expunge.provenance.keys import default_key_path, operator_key
from expunge.utils.file_names import MANIFEST, SIGNATURE
from expunge.utils.io import did_you_mean, json_text, read_table, sha256_json, write_text

MANIFEST_SCHEMA = "expunge.manifest/2"
"""Name and version of the layout of `manifest.json`."""
_SCHEMA = "expunge.signature/1"
_DIGITS = 32
_PUBLIC_BYTES = 32


def manifest_digest(manifest: Mapping[str, object]) -> str:
    """Return the digest that a manifest states of itself: over all of it but that.

    Example:
        >>> manifest_digest({"run": "a", "digest": "b"}) == manifest_digest({"run": "a"})
        True
    """
    return sha256_json({key: value for key, value in manifest.items() if key != "digest"})


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class SigningKey:
    """A private key of Ed25519; it is never shown."""

    seed: bytes

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        """Return the signature of some bytes."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(data)


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """The signature that lies in a run folder."""

    public: bytes
    """The key of whoever signed."""
    fits: bool
    """Whether it is the signature of the manifest that lies there."""


def signing_key_path() -> Path:
    """Return the file of the signing key: `EXPUNGE_SIGNING_KEY`, or beside the operator's key."""
    given = os.environ.get("EXPUNGE_SIGNING_KEY")
    return Path(given) if given else default_key_path().with_name("signing-key")


def signing_key(run: Path) -> SigningKey | None:
    """Return the signing key of this user; None where `expunge keys` has made none.

    Args:
        run: The folder that is signed; the key must lie outside it.

    Raises:
        UsageError: As `operator_key`.
        InputError: As `operator_key`.
    """
    path = signing_key_path()
    return SigningKey(seed=operator_key(path, run=run)) if path.exists() else None


def require_signing_key(run: Path) -> SigningKey:
    """Return the signing key of this user, where a signature is needed.

    Args:
        run: As for `signing_key`.

    Raises:
        UsageError: There is none; and as `operator_key`.
        InputError: As `operator_key`.
    """
    key = signing_key(run)
    if key is None:
        raise UsageError(
            "no-signing-key",
            what=f"there is no signing key at {signing_key_path()}",
            why="what nobody signs, anybody may have written",
            fix="make one with `expunge keys`",
        )
    return key


def make_signing_key(path: Path) -> SigningKey:
    """Return the signing key of a file, made where there is none, with its public key beside it.

    Args:
        path: File of the private key; `.pub` is added for the public one.

    Raises:
        UsageError: Other users may read the file.
        InputError: The file is not a key.
    """
    key = SigningKey(seed=operator_key(path, run=path / "no run"))
    write_text(path.with_name(f"{path.name}.pub"), f"{key.public.hex()}\n")
    return key


def key_fingerprint(public: bytes) -> str:
    """Return what people compare: the first 32 hex digits of the SHA-256 of a public key.

    Example:
        >>> key_fingerprint(bytes(32))
        '66687aadf862bd776c8fc18b8e9f8e20'
    """
    return hashlib.sha256(public).hexdigest()[:_DIGITS]


def read_public_key(path: Path) -> bytes:
    """Read a public key that `make_signing_key` wrote.

    Raises:
        InputError: There is no such file, or it holds no key.
    """
    if not path.exists():
        raise InputError(
            "no-public-key",
            what=f"there is no file {path}",
            why="a public key is the file .pub that `expunge keys` writes",
            fix=did_you_mean(str(path), "check the path"),
        )
    try:
        public = bytes.fromhex(path.read_text(encoding="utf-8").strip())
    except (OSError, ValueError):
        public = b""
    if len(public) == _PUBLIC_BYTES:
        return public
    raise InputError(
        "no-public-key",
        what=f"{path} holds no public key",
        why="it must hold 64 hex digits, as the file .pub that `expunge keys` writes",
        fix="ask whoever signed the run for that file",
    )


def write_signature(run: Path, manifest: bytes, key: SigningKey | None) -> None:
    """Sign the manifest of a run folder; without a key there is no signature afterwards.

    Call it before the manifest is written, which says that the run has ended.

    Args:
        run: The folder.
        manifest: What will stand in `manifest.json`.
        key: The signing key.
    """
    path = run / SIGNATURE
    if key is None:
        path.unlink(missing_ok=True)
        return
    signature = key.sign(manifest)
    write_text(path, _text(key.public, signature))


def _text(public: bytes, signature: bytes) -> str:
    row = {"schema": _SCHEMA, "public_key": public.hex(), "signature": signature.hex()}
    return json_text(row)


def read_signature(run: Path) -> Signature | None:
    """Return the signature of a run folder; None where nobody signed it.

    Raises:
        InputError: The file holds something else.
    """
    path = run / SIGNATURE
    if not path.is_file():
        return None
    row = read_table(path)
    try:
        public, signature = (bytes.fromhex(row[name]) for name in ("public_key", "signature"))
        known = row["schema"] == _SCHEMA and set(row) == {"schema", "public_key", "signature"}
    except (KeyError, TypeError, ValueError):
        public, signature, known = b"", b"", False
    known = known and path.read_bytes() == _text(public, signature).encode()
    if not known or len(public) != _PUBLIC_BYTES:
        raise InputError(
            "malformed-signature",
            what=f"{path} is no signature of schema {_SCHEMA!r}",
            why="the file was changed, or another program wrote it",
            fix="restore the folder from a copy",
        )
    return Signature(
        public=public, fits=is_signed(public, signature, (run / MANIFEST).read_bytes())
    )


def is_signed(public: bytes, signature: bytes, data: bytes) -> bool:
    """Tell whether a signature is that of some bytes by a key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True
