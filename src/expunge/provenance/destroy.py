"""Destruction of evidence: the records go, the manifest stays valid.

The evidence is the very data that was to be forgotten, and is kept only as long as the result may
have to be recomputed. Destroying it removes the rows, the salt of a seal (so that copies of sealed
files cannot be opened either), and reports that show records in full or were written since. What
stays is the manifest with the digest of every file, the keyed fingerprint of every record, the
scores and the verdict; and a note, authenticated by the operator's key, that says what was
destroyed and when. The deliverable stays as well, also a guard whose rules hold text of the forget
set.
"""

import hmac
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from expunge.errors import InputError, UsageError, named_in_part
from expunge.evidence.encryption import NAME as SEAL
from expunge.evidence.encryption import SHARED
from expunge.provenance.keys import fingerprint
from expunge.provenance.manifest import DESTROYED, NAME, SCHEMA
from expunge.provenance.signature import SigningKey, is_signed
from expunge.reporting.build import IN_FULL, MASKED, OWN
from expunge.utils.io import read_table, sha256_file, sha256_json, write_json

_SCHEMA = "expunge.destruction/1"
_STAY = "evidence/context.json"
_PAGES = (OWN, "attack.md", IN_FULL, MASKED)
"""What shows texts of records, masked or not."""
_MOST_NAMED = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Destruction:
    """What was destroyed, and when."""

    at: str
    """ISO 8601 with offset."""
    files: tuple[str, ...]
    """Paths relative to the run folder."""
    authentic: bool | None
    """Whether the operator's key made this note; None without the key."""
    signer: bytes = b""
    """Public key that signed the note; empty: none, or another signature than that of the note."""


def expired(manifest: Mapping[str, Any], today: date) -> bool:
    """Tell whether the evidence of a manifest was to be destroyed by `today`."""
    return today >= date.fromisoformat(manifest["evidence"]["expires"])


def destroy_evidence(
    run: Path,
    *,
    key: bytes,
    only_expired: bool,
    now: datetime,
    signing: SigningKey | None = None,
) -> Destruction:
    """Destroy the evidence of a finished run; calling it again finishes what was interrupted.

    Args:
        run: The run folder.
        key: The operator's key, which authenticates the note.
        only_expired: Refuse before the date that the manifest names.
        now: When this happens.
        signing: The signing key: a run that is signed needs a note that is signed, too.

    Raises:
        InputError: The folder has no manifest that this version reads, or a note on its destruction
            that this operator did not make; or files could not be removed, and they alone are left.
        UsageError: `only_expired`, and the date has not come.
    """
    manifest = read_table(run / NAME) if (run / NAME).is_file() else {}
    if manifest.get("schema") != SCHEMA or not _is_whole(manifest):
        raise InputError(
            "no-manifest",
            what=f"{run} has no {NAME} of schema {SCHEMA!r}",
            why="without it the evidence could not be identified later",
            fix="finish the run with the same command first; or remove the folder evidence by hand",
        )
    if only_expired and not expired(manifest, now.date()):
        raise _too_early(run, manifest["evidence"]["expires"])
    known = read_destruction(run, manifest, key=key)
    if known is None:
        files = [name for name in manifest["files"] if _is_evidence(name)]
        files += [name for name in _PAGES if _tells(run, name, manifest)]
        body = {
            "schema": _SCHEMA,
            "at": now.astimezone(UTC).isoformat(timespec="seconds"),
            "manifest": manifest["digest"],
            "files": files,
        }
        text = sha256_json(body)
        signed = {} if signing is None else _signed(signing, text)
        _write_note(run / DESTROYED, {**body, "mac": fingerprint(text, key), **signed})
        known = Destruction(at=str(body["at"]), files=tuple(files), authentic=True)
    if not known.authentic:
        raise InputError(
            "foreign-note",
            what=f"{run / DESTROYED} is not this operator's note on this run's evidence",
            why="it may name files that are not evidence, or hide that nothing was destroyed",
            fix="find out who wrote it; remove it to destroy the evidence under your own key",
        )
    left = [run / name for name in known.files if not _removed(run / name)]
    if left:
        raise _refused(left)
    return known


def _signed(key: SigningKey, text: str) -> dict[str, str]:
    return {"public_key": key.public.hex(), "signature": key.sign(text.encode()).hex()}


def _write_note(path: Path, note: Mapping[str, Any]) -> None:
    """Write the note, without which nothing is destroyed: what is gone would seem to be missing."""
    try:
        write_json(path, note)
    except OSError as error:
        raise InputError(
            "evidence-left",
            what=f"could not write {path}; nothing is destroyed",
            why=f"the system refused it ({error.strerror}), and without this note the files that"
            " are destroyed would count as missing",
            fix="make the folder writable, and run the same command again",
        ) from error


def _removed(path: Path) -> bool:
    """Remove a file; tell whether it is gone, so that one that stays keeps no other from going."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def destroy_store(folder: Path, *, only_expired: bool, now: datetime) -> int:
    """Destroy the shared attacks on the original and the golds; runs make them again.

    Calling it again finishes what was interrupted.

    Args:
        folder: The `attack_store` of these runs.
        only_expired: Refuse before the date that the last of them named.
        now: When this happens.

    Returns:
        Number of files.

    Raises:
        UsageError: `only_expired`, and the date has not come.
        InputError: Something could not be removed and is left.
    """
    until = kept_until(folder)
    if only_expired and now.date() < date.fromisoformat(until):
        raise _too_early(folder, until)
    count = kept(folder)
    parts = [folder / "open", folder / "sealed"]
    for part in parts:
        # Errors are ignored so that as much as possible goes; what is left is looked for.
        shutil.rmtree(part, ignore_errors=True)
    left = [path for part in parts for path in _left(part)]
    if left:
        raise _refused(left)
    (folder / SHARED).unlink()
    return count


def kept_until(folder: Path) -> str:
    """Return the date from which the evidence that runs share is to be destroyed, ISO 8601.

    Raises:
        InputError: The folder does not say.
    """
    try:
        return date.fromisoformat(read_table(folder / SHARED)["expires"]).isoformat()
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "not-json",
            what=f"{folder / SHARED} names no date",
            why="the file was cut short or changed, or another program wrote it",
            fix="remove the folder by hand; runs that need it make it again",
        ) from error


def _is_whole(manifest: Mapping[str, Any]) -> bool:
    """Tell whether a manifest says what its destruction needs to know."""
    try:
        date.fromisoformat(manifest["evidence"]["expires"])
        return isinstance(manifest["files"], dict) and "redacted" in manifest["evidence"]
    except (KeyError, TypeError, ValueError):
        return False


def _refused(left: Sequence[Path]) -> InputError:
    named = named_in_part([str(path) for path in left], most=_MOST_NAMED)
    return InputError(
        "evidence-left",
        what=f"could not remove {named}; all else of the evidence there is destroyed",
        why="the system refused it: a file of another user, a link, or a read-only disk",
        fix="make it removable, or remove it by hand, and run the same command again",
    )


def _left(folder: Path) -> list[Path]:
    """Return the files that are still in a folder, or the folder if that is all; none if gone."""
    if not (folder.exists() or folder.is_symlink()):
        return []
    return [path for path in sorted(folder.rglob("*")) if not path.is_dir()] or [folder]


def kept(folder: Path) -> int:
    """Count the files of records and of outputs in a folder of evidence."""
    others = ("context.json", SHARED, SEAL)
    return sum(path.is_file() and path.name not in others for path in folder.rglob("*"))


def _too_early(folder: Path, until: str) -> UsageError:
    return UsageError(
        "not-expired",
        what=f"the evidence of {folder} is kept until {until}",
        why="only expired evidence was to be destroyed",
        fix="leave --expired away to destroy it now",
    )


def read_destruction(
    run: Path, manifest: Mapping[str, Any], *, key: bytes | None
) -> Destruction | None:
    """Return the note on the destruction of this run's evidence; None when there is none.

    A note that belongs to another manifest, that names files which no destruction removes, or that
    another key made, is not authentic.
    """
    path = run / DESTROYED
    if not path.is_file():
        return None
    body = read_table(path)
    mac, public, signature = (
        str(body.pop(name, "")) for name in ("mac", "public_key", "signature")
    )
    files = tuple(str(name) for name in body["files"])
    fits = body.get("manifest") == manifest.get("digest") and body.get("schema") == _SCHEMA
    fits = fits and all(name in _PAGES or _is_evidence(name) for name in files)
    authentic: bool | None = None
    if key is not None or not fits:
        right = key is not None and hmac.compare_digest(mac, fingerprint(sha256_json(body), key))
        authentic = fits and right
    signer = bytes.fromhex(public)
    signed = is_signed(signer, bytes.fromhex(signature), sha256_json(body).encode())
    return Destruction(
        at=str(body["at"]), files=files, authentic=authentic, signer=signer if signed else b""
    )


def _is_evidence(name: str) -> bool:
    """Return whether a path, relative to the run folder, holds records or outputs of models."""
    path = PurePosixPath(name)
    return path.parts[:1] == ("evidence",) and ".." not in path.parts and name != _STAY


def _tells(run: Path, name: str, manifest: Mapping[str, Any]) -> bool:
    """Tell whether a page shows records in full, or is not the one that the run wrote.

    One that cannot be read may be either.
    """
    if not (run / name).is_file():
        return False
    try:
        known = manifest["files"].get(name, {}).get("sha256") == sha256_file(run / name)
    except OSError:
        known = False
    return not (known and manifest["evidence"]["redacted"])
