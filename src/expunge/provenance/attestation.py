"""Attestations: a person in a role stands for a digest, at a time, by a signature (Ed25519).

The approval of a run is one. It lies beside the manifest and names its digest, so it is void once
anything in the run has changed.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from expunge.errors import InputError
from expunge.provenance.signature import SigningKey, is_signed, key_fingerprint
from expunge.utils.io import json_text, read_table, sha256_json, write_json

Role = Literal["operator", "approver", "auditor"]
"""Who signs: whoever made the run, whoever lets it out, whoever checked it from outside."""

APPROVAL = "approval.json"
"""File of a run folder that says who approved it; the manifest does not cover it."""
_SCHEMA = "expunge.approval/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Attestation:
    """A statement of one person, with its signature.

    Example:
        >>> made = attest("auditor", "Ada", digest="ab", key=SigningKey(seed=bytes(32)))
        >>> made.fits, made.role
        (True, 'auditor')
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    role: Role
    by: str
    """Name of the person; empty where none was given."""
    at: str
    """ISO 8601 in UTC."""
    digest: str
    """What it stands for: the digest of a manifest, or of the body of a certificate."""
    public_key: str
    signature: str

    @property
    def fits(self) -> bool:
        """Whether the signature is that of this statement."""
        try:
            public, signature = bytes.fromhex(self.public_key), bytes.fromhex(self.signature)
        except ValueError:
            return False
        return is_signed(public, signature, _said(self.role, self.by, self.at, self.digest))

    @property
    def signer(self) -> str:
        """Fingerprint of the key."""
        return key_fingerprint(bytes.fromhex(self.public_key))


def attest(role: Role, by: str, *, digest: str, key: SigningKey) -> Attestation:
    """Sign a digest in a role, now.

    Args:
        role: Who signs.
        by: Name of the person; may be empty.
        digest: What is signed.
        key: The private key.
    """
    at = datetime.now(UTC).isoformat(timespec="seconds")
    signature = key.sign(_said(role, by, at, digest)).hex()
    public = key.public.hex()
    return Attestation(
        role=role, by=by, at=at, digest=digest, public_key=public, signature=signature
    )


def write_approval(run: Path, approval: Attestation) -> Path:
    """Write the approval of a run beside its manifest, and return its path."""
    path = run / APPROVAL
    write_json(path, {"schema": _SCHEMA, **asdict(approval)})
    return path


def read_approval(run: Path) -> Attestation | None:
    """Return the approval of a run; None where nobody approved it.

    Raises:
        InputError: The file is no approval, or its signature does not fit what it says.
    """
    path = run / APPROVAL
    if not path.is_file():
        return None
    row = read_table(path)
    known = row.pop("schema", None) == _SCHEMA
    found = attestation_from_json(row)
    whole = known and path.read_bytes() == json_text({"schema": _SCHEMA, **row}).encode()
    if not whole or found is None or found.role != "approver" or not found.fits:
        raise InputError(
            "malformed-approval",
            what=f"{path} is no approval that its signer made",
            why="the file was changed, or another program wrote it",
            fix="remove the file, and approve the run again",
        )
    return found


def attestation_from_json(row: Any) -> Attestation | None:  # noqa: ANN401 - JSON is what it is
    """Return the attestation that was written as JSON; None where it is something else."""
    try:
        return TypeAdapter(Attestation).validate_python(row)
    except ValidationError:
        return None


def _said(role: str, by: str, at: str, digest: str) -> bytes:
    return sha256_json({"role": role, "by": by, "at": at, "digest": digest}).encode()
