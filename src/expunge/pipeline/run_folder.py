"""The run folder: one place for a model and its evidence, claimed by one process at a time.

Claims: one folder is worked on by one process at a time, and by nobody once that has died.
"""

import fcntl
import json
import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

from expunge.errors import Interrupted, UsageError
from expunge.utils.file_names import (
    CHECKPOINTS,
    EVIDENCE,
    GUARDED,
    LOG,
    MANIFEST,
    MODEL,
    REPORT,
    RESULTS,
    RUN,
    SETTINGS,
)
from expunge.utils.io import (
    is_part,
    open_own,
    read_json,
    require_no_special_files,
    sha256_json,
    sweep,
    write_json,
)

if TYPE_CHECKING:
    from expunge.config.settings import Settings
    from expunge.evidence.store import EvidenceStore


LOCK = ".lock"
"""Name of the lock file in a claimed folder."""


def claim(folder: Path) -> IO[str]:
    """Claim a folder until the returned file is closed, or until all processes that hold it end.

    Raises:
        UsageError: Another living process works in it (`run-locked`), or the lock is a link to a
            file elsewhere (`link-in-run`).
    """
    path = folder / LOCK
    while True:
        lock = open_own(path)
        try:
            # The kernel drops the lock with its process, so that of a dead one is simply taken.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with lock:
                raise _locked(folder, lock) from None
        if _still_there(path, lock):
            break
        lock.close()
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "start": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    lock.truncate(0)
    lock.write(json.dumps(holder))
    lock.flush()
    return lock


def _still_there(path: Path, lock: IO[str]) -> bool:
    try:
        return path.stat().st_ino == os.fstat(lock.fileno()).st_ino
    except FileNotFoundError:
        return False


def _locked(folder: Path, lock: IO[str]) -> UsageError:
    lock.seek(0)
    try:
        holder = json.loads(lock.read())
        who = f"process {holder['pid']} on {holder['host']} works in it since {holder['start']}"
    except (ValueError, KeyError, TypeError):
        who = "another process has just begun to work in it"
    return UsageError(
        "run-locked",
        what=f"{folder} is in use",
        why=who,
        fix="wait for that process or stop it, then run the same command again: it resumes",
    )


AUDITED = "audit"
"""Method of a run that only judges."""
_SCHEMA = 1

# Where a run is written and how it is shown does not change what it computes; the contents of the
# model and of the data sets enter the identity by their digests, so that a moved file is the same.
_NOT_IDENTITY = {
    "out",
    "attack_store",
    "reference_store",
    "offline",
    "report",
    "tracker",
    "model",
    "first_original",
}


def run_id(settings: "Settings", *, data_digest: str, model_digest: str, code_version: str) -> str:
    """Return eight hex digits that are equal exactly when two runs would compute the same.

    Args:
        settings: The resolved settings; where the files lie and what the report shows is left out.
        data_digest: Digest over the contents of all record sets, each with its role.
        model_digest: Digest of the original model, and of the others that are asked beside it.
        code_version: Version of expunge.
    """
    from expunge.config.request import RECORD_SETS  # loads pydantic

    absent = set() if settings.stage else {"stage"}
    tree = settings.model_dump(mode="json", exclude={*_NOT_IDENTITY, *absent})
    tree["request"] = {k: v for k, v in tree["request"].items() if k not in RECORD_SETS}
    identity = {"settings": tree, "data": data_digest, "model": model_digest, "code": code_version}
    return sha256_json(identity)[:8]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """A claimed run folder: its paths, and the lock that is held until `close`.

    Use it as a context manager: the lock goes when the block ends, or with the process.
    """

    path: Path
    run_id: str
    lock: IO[str]
    """The open lock file; nobody else computes in this folder while it is open."""

    @property
    def evidence(self) -> Path:
        """Folder of the raw outputs."""
        return self.path / EVIDENCE

    @property
    def model(self) -> Path:
        """Folder of what may be published: the model, its card, its report, its own manifest."""
        return self.path / MODEL

    @property
    def guard(self) -> Path:
        """Folder of a guard whose rules tell of the forget set: private, as evidence is."""
        return self.path / GUARDED

    @property
    def checkpoints(self) -> Path:
        """Folder of the training state; removed by `prune` when the run has ended well."""
        return self.path / CHECKPOINTS

    @property
    def config(self) -> Path:
        """The resolved settings, runnable again."""
        return self.path / SETTINGS

    @property
    def results(self) -> Path:
        """Scores, gates and verdict."""
        return self.path / RESULTS

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.path / REPORT

    @property
    def manifest(self) -> Path:
        """Digests of every file; written last."""
        return self.path / MANIFEST

    @property
    def log(self) -> Path:
        """What the console said."""
        return self.path / LOG

    @property
    def finished(self) -> bool:
        """Whether the run has ended well before: its manifest is there."""
        return self.manifest.is_file()

    def prune(self) -> None:
        """Remove the checkpoints."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def close(self) -> None:
        """Give the folder free. Closing twice is harmless."""
        if not self.lock.closed:
            # Removed while still locked: whoever opened it meanwhile sees that it is gone.
            (self.path / LOCK).unlink(missing_ok=True)
            self.lock.close()

    def __enter__(self) -> "RunFolder":
        """Return the folder itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the folder free."""
        self.close()


def open_run(out: Path | None, *, root: Path, run_id: str, method: str, now: datetime) -> RunFolder:
    """Claim the folder of a run, new or begun before.

    The folder is `out` if given, else the one below `root` whose name ends in the run id, so that
    the same command resumes, else `root/YYYYMMDD-HHMM-METHOD-ID`.

    Raises:
        UsageError: The folder holds something else (`folder-in-use`) or a link (`link-in-run`), of
            which nothing is touched; or another living process computes in it (`run-locked`).
    """
    folder = out or _begun(root, run_id) or root / f"{now:%Y%m%d-%H%M}-{method}-{run_id}"
    _refuse_foreign(folder, run_id)
    require_no_special_files(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = claim(folder)
    sweep(folder)
    if not (folder / RUN).is_file():
        state = {"schema": _SCHEMA, "run_id": run_id, "method": method, "begun": now.isoformat()}
        write_json(folder / RUN, state)
    return RunFolder(path=folder, run_id=run_id, lock=lock)


def mark_latest(folder: Path, *, root: Path) -> None:
    """Point the symlink `root/latest` at `folder`, atomically.

    Only for a run that lies directly in `root`: who chose another folder gets just that folder.
    A `latest` that is not a symlink belongs to the user and is left alone.
    """
    link = root / "latest"
    if folder.parent.resolve() != root.resolve() or (link.exists() and not link.is_symlink()):
        return
    fresh = root / f".latest.{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(folder.name, target_is_directory=True)
    fresh.replace(link)


def evidence_of(run: Path) -> "EvidenceStore":
    """Return the evidence of a run, opened with the operator's key where it is sealed.

    Raises:
        InputError: As `expunge.provenance.keys.operator_key`.

    Example:
        >>> evidence_of(Path("no-run")).begun()
        False
    """
    from expunge.evidence.store import EvidenceStore
    from expunge.provenance.keys import key_path, operator_key

    store = EvidenceStore(run / EVIDENCE)
    if store.sealed:
        store = EvidenceStore(run / EVIDENCE, key=operator_key(key_path(), run=run))
    return store


def interrupted(run: RunFolder) -> Interrupted:
    """Return the error for a run that the user stopped."""
    return Interrupted(
        "interrupted",
        what="stopped on request",
        why=f"everything finished so far is kept in {run.path}",
        fix="run the same command again: it goes on from there",
    )


def begun_as(folder: Path) -> str:
    """Return the method that a run began with, `audit` of an audit; empty where none began.

    Args:
        folder: Any folder.

    Example:
        >>> begun_as(Path("no-run"))
        ''
    """
    return str(_state(folder).get("method") or "")


def _begun(root: Path, run_id: str) -> Path | None:
    found = [path for path in root.glob(f"*-{run_id}") if _state(path).get("run_id") == run_id]
    return max(found, default=None)


def _state(folder: Path) -> Mapping[str, object]:
    path = folder / RUN
    try:
        state = read_json(path) if path.is_file() else {}
    except ValueError:
        return {}
    return state if isinstance(state, dict) else {}


def _refuse_foreign(folder: Path, run_id: str) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise _in_use(folder, "it is a file, not a folder")
    # A process that died between making the folder and naming the run leaves no more than these.
    if all(path.name == LOCK or is_part(path) for path in folder.iterdir()):
        return
    other = _state(folder).get("run_id")
    if other is None:
        raise _in_use(folder, "it holds files that are not a run of expunge")
    if other != run_id:
        raise _in_use(
            folder, f"it holds run {other}; settings, model, data or version make this {run_id}"
        )


def _in_use(folder: Path, why: str) -> UsageError:
    return UsageError(
        "folder-in-use",
        what=f"{folder} cannot be the folder of this run; nothing was changed there",
        why=why,
        fix="choose another folder with --out, or leave --out away for a new one",
    )
