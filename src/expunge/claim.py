"""Claims: one folder is worked on by one process at a time, and by nobody once that has died."""

import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from expunge.errors import UsageError

LOCK = ".lock"
"""Name of the lock file in a claimed folder."""


def claim(folder: Path) -> IO[str]:
    """Claim a folder until the returned file is closed, or until all processes that hold it end.

    Raises:
        UsageError: Another living process works in it (`run-locked`).
    """
    path = folder / LOCK
    while True:
        lock = path.open("a+", encoding="utf-8")
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
