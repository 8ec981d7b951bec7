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
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from expunge.config.resolve import parsed
from expunge.errors import InputError, UsageError, named_in_part
from expunge.evidence.encryption import NAME as SEAL
from expunge.evidence.encryption import SHARED, kept_until
from expunge.evidence.store import ITEMS, EvidenceStore, Item
from expunge.provenance.files import name_in
from expunge.provenance.keys import fingerprint
from expunge.provenance.leftovers import Traces
from expunge.provenance.manifest import DESTROYED, SCHEMA
from expunge.provenance.signature import SigningKey, is_signed
from expunge.reporting.build import IN_FULL, MASKED, PUBLISHED
from expunge.utils.file_names import (
    ATTACK_PAGE,
    CHECKPOINTS,
    CONTEXT,
    EVIDENCE,
    MANIFEST,
    PROTOCOL,
    REPORT,
    SETTINGS,
)
from expunge.utils.io import is_part, read_table, sha256_file, sha256_json, write_json
from expunge.utils.system import cache_folder

_SCHEMA = "expunge.destruction/1"
_STAY = f"{EVIDENCE}/{CONTEXT}"
_PAGES = (REPORT, PUBLISHED, ATTACK_PAGE, IN_FULL, MASKED)
"""What shows texts of records, masked or not."""
_PRIVATE = (EVIDENCE, CHECKPOINTS, "shared", "probes", "data")
"""Folders of a matrix that hold records, or what models say about them."""
_INDEX = {"rows", "width", "dtype", "records"}
"""Keys of the file that says what a file of a reference store holds."""
_DIGEST = re.compile(r"[0-9a-f]{16}")
_MOST_NAMED = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Destruction:
    """What was destroyed, and when."""

    at: str
    """ISO 8601 with offset."""
    files: tuple[str, ...]
    """Paths relative to the run folder."""
    holds: tuple[str, ...] | None = ()
    """Files that stay and hold something of the records, such as the path of a file in settings;
    None: nobody could look, for the evidence is sealed under another key."""
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
    manifest = _require_manifest(run)
    if only_expired and not expired(manifest, now.date()):
        raise _too_early(run, manifest["evidence"]["expires"])
    known = read_destruction(run, manifest, key=key)
    if known is None:
        files = [name for name in manifest["files"] if _is_evidence(name)]
        files += [name for name in _PAGES if _tells(run, name, manifest)]
        body: dict[str, Any] = {
            "schema": _SCHEMA,
            "at": now.astimezone(UTC).isoformat(timespec="seconds"),
            "manifest": manifest["digest"],
            "files": files,
            "holds": _holders(run, files, key),
        }
        text = sha256_json(body)
        signed = {} if signing is None else _signed(signing, text)
        _write_note(run / DESTROYED, {**body, "mac": fingerprint(text, key), **signed})
        known = Destruction(
            at=body["at"], files=tuple(files), holds=_names(body["holds"]), authentic=True
        )
    if not known.authentic:
        raise InputError(
            "foreign-note",
            what=f"{run / DESTROYED} is not this operator's note on this run's evidence",
            why="it may name files that are not evidence, or hide that nothing was destroyed",
            fix="find out who wrote it; remove it to destroy the evidence under your own key",
        )
    if left := _remove([*(run / name for name in known.files), *_unnamed(run)]):
        raise _refused(left)
    return known


def _require_manifest(run: Path) -> dict[str, Any]:
    manifest = read_table(run / MANIFEST) if (run / MANIFEST).is_file() else {}
    if manifest.get("schema") != SCHEMA or not _is_whole(manifest):
        raise InputError(
            "no-manifest",
            what=f"{run} has no {MANIFEST} of schema {SCHEMA!r}",
            why="without it the evidence could not be identified later",
            fix="finish the run with the same command first; or remove the folder evidence by hand",
        )
    return manifest


def _unnamed(run: Path) -> list[Path]:
    """Return what no manifest names and may hold records: parts of files, and what was added."""
    found = [path for path in run.rglob("*") if is_part(path) and not path.is_dir()]
    stay = {run / _STAY, *found}
    for folder in (run / EVIDENCE, run / CHECKPOINTS):
        found += [path for path in folder.rglob("*") if path not in stay and not path.is_dir()]
    return sorted(found)


def _remove(paths: Sequence[Path]) -> list[Path]:
    """Remove files, the list of the records last, and return those that the system keeps."""
    last = sorted(paths, key=lambda path: path.name.startswith(ITEMS))
    return [path for path in last if not _removed(path)]


def _names(value: Iterable[object] | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(map(str, value))


def _holders(run: Path, files: Sequence[str], key: bytes) -> list[str] | None:
    """Name the files that stay and hold something of the records, as names and paths may."""
    try:
        traces = traces_of([run / EVIDENCE], key)
    except InputError:  # sealed under another key, or damaged
        return None
    goes = {run / name for name in files} | set(_unnamed(run))
    return [name_in(run, path) for path in traces.holders(run) if path not in goes]


def traces_of(folders: Iterable[Path], key: bytes) -> Traces:
    """Return what tells of the forget records in folders of evidence, as far as they are there.

    Raises:
        InputError: It is sealed under another key.
    """
    items: list[Item] = []
    for folder in folders:
        store = EvidenceStore(folder, key=key)
        if store.holds(ITEMS):
            items += store.items_with_facts()
    return Traces.of(items)


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
    if only_expired and now.date() < until:
        raise _too_early(folder, until.isoformat())
    count = kept(folder)
    _emptied([folder / "open", folder / "sealed"])
    (folder / SHARED).unlink()
    return count


def forget_fingerprints(folder: Path) -> frozenset[str]:
    """Return the keyed fingerprints of the forget records in all manifests under a folder."""
    manifests = [read_table(path) for path in folder.rglob(MANIFEST)]
    data = [each.get("data") for each in manifests if each.get("schema") == SCHEMA]
    lists = [sets.get("forget") for sets in data if isinstance(sets, dict)]
    return frozenset(str(mark) for marks in lists if isinstance(marks, list) for mark in marks)


def shared_of(run: Path) -> list[Path]:
    """Return the folders that the settings of a run share with other runs, where they are there."""
    path = run / SETTINGS
    tables = parsed(path) if path.is_file() else {}
    named = [tables.get(name) for name in ("attack_store", "reference_store")]
    return [Path(each) for each in named if isinstance(each, str) and Path(each).is_dir()]


def is_own(shared: Path, run: Path) -> bool:
    """Tell whether a shared folder belongs to a run or to its user, and to nobody else.

    Settings may come from a stranger, and name the store of another run.

    Args:
        shared: The folder that the settings name.
        run: The run folder.
    """
    places = (run.resolve(), cache_folder().resolve())
    return any(shared.resolve().is_relative_to(place) for place in places)


def destroy_shared(folder: Path, *, only_expired: bool, now: datetime) -> int | None:
    """Destroy what a run shares with others and owns; it is made again by whichever needs it.

    Args:
        folder: An `attack_store` or a `reference_store`.
        only_expired: Leave it where another run keeps it longer.
        now: When this happens.

    Returns:
        Number of files; None where it is left, or is neither of the two.

    Raises:
        InputError: Something could not be removed and is left.
    """
    if is_reference_store(folder):
        return destroy_references(folder)
    if not (folder / SHARED).is_file():
        return None
    early = only_expired and now.date() < kept_until(folder)
    return None if early else destroy_store(folder, only_expired=only_expired, now=now)


def is_matrix(folder: Path) -> bool:
    """Tell whether a folder is what `expunge bench` or `expunge tune` wrote."""
    return (folder / PROTOCOL).is_file()


def is_reference_store(folder: Path) -> bool:
    """Tell whether a folder holds values of a reference model for records, and nothing else.

    Settings may come from a stranger, and name any folder.
    """
    inside = list(folder.iterdir()) if folder.is_dir() else []
    if not inside or not all(each.is_dir() and _DIGEST.fullmatch(each.name) for each in inside):
        return False
    paths = [path for path in folder.rglob("*") if not path.is_dir() and not is_part(path)]
    return all(path.suffix == ".bin" or _is_index(path) for path in paths)


def _is_index(path: Path) -> bool:
    try:
        return path.suffix == ".json" and read_table(path).keys() == _INDEX
    except InputError:
        return False


def destroy_references(folder: Path) -> int:
    """Destroy what a `reference_store` keeps of records; runs compute it again.

    Returns:
        Number of files.

    Raises:
        InputError: Something could not be removed and is left.
    """
    return _emptied([path for path in folder.iterdir() if _DIGEST.fullmatch(path.name)])


def destroy_matrix(
    folder: Path, *, key: bytes, only_expired: bool, now: datetime, signing: SigningKey | None
) -> tuple[int, tuple[str, ...] | None]:
    """Destroy the evidence of all runs of a matrix, what they share, and its copies of the data.

    Calling it again finishes what was interrupted.

    Args:
        folder: What `expunge bench` or `expunge tune` wrote.
        key: As for `destroy_evidence`.
        only_expired: Refuse before the last date that a run names.
        now: When this happens.
        signing: As for `destroy_evidence`.

    Returns:
        Number of files that are gone, and the files that stay and hold something of the records,
        as `Destruction.holds`.

    Raises:
        InputError: As `destroy_evidence`.
        UsageError: As `destroy_evidence`.
    """
    finished = sorted(path.parent for path in folder.rglob(MANIFEST) if _is_run(path))
    if only_expired:
        for run in finished:
            manifest = _require_manifest(run)
            if not expired(manifest, now.date()):
                raise _too_early(run, manifest["evidence"]["expires"])
    try:
        traces = traces_of([path.parent for path in folder.rglob(f"{ITEMS}*")], key)
    except InputError:  # sealed under another key
        traces = None
    count = 0
    for run in finished:
        done = destroy_evidence(run, key=key, only_expired=False, now=now, signing=signing)
        count += len(done.files)
    rest = [path for name in _PRIVATE for path in folder.rglob(name) if path.is_dir()]
    count += _emptied([path for path in rest if path.parent not in finished])
    if left := _remove([path for path in folder.rglob("*") if is_part(path)]):
        raise _refused(left)
    holds = None if traces is None else traces.holders(folder)
    return count, None if holds is None else tuple(name_in(folder, path) for path in holds)


def _is_run(manifest: Path) -> bool:
    return read_table(manifest).get("schema") == SCHEMA


def _emptied(folders: Iterable[Path]) -> int:
    """Remove folders with all that is in them, and return how many files that was."""
    there = [folder for folder in folders if folder.exists()]
    count = sum(path.is_file() for folder in there for path in folder.rglob("*"))
    for folder in there:
        # Errors are ignored so that as much as possible goes; what is left is looked for.
        shutil.rmtree(folder, ignore_errors=True)
    if left := [path for folder in there for path in _left(folder)]:
        raise _refused(left)
    return count


def _is_whole(manifest: Mapping[str, Any]) -> bool:
    """Tell whether a manifest says what its destruction needs to know."""
    try:
        date.fromisoformat(manifest["evidence"]["expires"])
        tables = isinstance(manifest["files"], dict) and isinstance(manifest["digest"], str)
        tables = tables and all(isinstance(each, dict) for each in manifest["files"].values())
        return tables and "redacted" in manifest["evidence"]
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
    others = (CONTEXT, SHARED, SEAL)
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

    Raises:
        InputError: It is no such note.
    """
    path = run / DESTROYED
    if not path.is_file():
        return None
    try:
        return _read_note(read_table(path), manifest, key)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            "foreign-note",
            what=f"{path} is no note on the destruction of evidence",
            why="a field is missing or of another kind",
            fix="find out who wrote it; remove it to destroy the evidence under your own key",
        ) from error


def _read_note(body: dict[str, Any], manifest: Mapping[str, Any], key: bytes | None) -> Destruction:
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
        at=str(body["at"]),
        files=files,
        holds=_names(body.get("holds", ())),
        authentic=authentic,
        signer=signer if signed else b"",
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
    return not (known and (name == PUBLISHED or manifest["evidence"]["redacted"]))
