"""What lies below a folder: runs, attacks, leaderboards and ledgers.

Each is read once, and again when it changes. Only the small manifest of each run is read for the
list. Links are not followed, and nothing below a run is looked at.
"""

import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from expunge.errors import ExpungeError, InputError
from expunge.ledger.connection import is_ledger
from expunge.utils.file_names import LEADERBOARD, MANIFEST, RESULTS, RUN
from expunge.utils.io import read_table

DEEPEST = 6
"""Levels below the folder that are looked at."""
_LEDGER = ".db"
"""Ending of the names of ledgers."""
_MARKS = (MANIFEST, RESULTS, RUN)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """One line of the list of runs."""

    id: str
    """Path below the folder, with forward slashes."""
    folder: Path
    ruling: str
    """The verdict; of an attack what it found; else why there is none."""
    finished: bool
    attack: bool = False
    """Whether it is the folder of an attack on its own: a table of attacks, and no verdict."""
    level: str = ""
    """Threat model and tier."""
    method: str = ""
    model: str = ""
    created: str = ""


class Found(NamedTuple):
    """What a walk over the folder found."""

    runs: list[RunSummary]
    """The newest first."""
    boards: dict[str, Path]
    """Leaderboards by the path of their folder."""
    ledgers: dict[str, Path]
    """Ledgers by their path."""


@dataclass(slots=True)
class RunLibrary:
    """The runs, leaderboards and ledgers below a folder.

    Args:
        root: The folder.
    """

    root: Path
    _known: dict[str, tuple[tuple[int, int], RunSummary]] = field(
        default_factory=dict[str, tuple[tuple[int, int], RunSummary]]
    )
    _lock: Lock = field(default_factory=Lock)
    _walked: float = -math.inf
    """When the last walk began."""
    _found: Found = field(default_factory=lambda: Found([], {}, {}))

    def look(self) -> Found:
        """Return what is there by one walk over the folder; only what has changed is read again.

        Who asks while others wait gets what a walk found that began after the question: a hundred
        readers cause two or three walks.
        """
        asked = time.monotonic()
        with self._lock:
            if self._walked < asked:
                self._walked = time.monotonic()
                self._found = self._walk()
            return self._found

    def _walk(self) -> Found:
        runs: list[RunSummary] = []
        boards: dict[str, Path] = {}
        ledgers: dict[str, Path] = {}
        for folder, names in self._folders():
            mark = next((name for name in _MARKS if name in names), None)
            if mark is not None:
                runs += self._summary(folder, mark)
            if LEADERBOARD in names:
                boards[self._id(folder)] = Path(folder, LEADERBOARD)
            ledgers |= {self._id(str(each)): each for each in _ledgers(folder, names)}
        self._known = {str(each.folder): self._known[str(each.folder)] for each in runs}
        newest_first = sorted(runs, key=lambda run: (run.created, run.id), reverse=True)
        return Found(newest_first, dict(sorted(boards.items())), dict(sorted(ledgers.items())))

    def run(self, run_id: str) -> RunSummary:
        """Return one run by the name that the list has.

        Raises:
            InputError: There is none.
        """
        for each in self.look().runs:
            if each.id == run_id:
                return each
        raise InputError(
            "no-run",
            what="there is no such run",
            why="it was renamed or removed, or lies elsewhere",
            fix="go back to the list",
        )

    def _id(self, folder: str) -> str:
        below = Path(folder).relative_to(self.root)
        return below.as_posix() if below.parts else self.root.name

    def _folders(self) -> Iterator[tuple[str, set[str]]]:
        """Yield the folder and those below it with the names of their files; none inside a run."""
        waiting = [(str(self.root), 0)]
        while waiting:
            folder, depth = waiting.pop()
            try:
                with os.scandir(folder) as entries:
                    every = list(entries)
            except OSError:  # a folder that may not be read holds nothing to show
                continue
            names = {each.name for each in every if each.is_file(follow_symlinks=False)}
            yield folder, names
            if depth < DEEPEST and names.isdisjoint(_MARKS):
                waiting += [(each.path, depth + 1) for each in every if _is_folder(each)]

    def _summary(self, folder: str, mark: str) -> list[RunSummary]:
        """Return the line of a run; none where it was removed meanwhile."""
        path = os.path.join(folder, mark)  # noqa: PTH118 - a thousand times a page
        try:
            state = os.stat(path)  # noqa: PTH116
        except OSError:
            return []
        seen = (state.st_mtime_ns, state.st_size)
        known = self._known.get(folder)
        if known is None or known[0] != seen:
            known = seen, _read(self._id(folder), Path(folder), Path(path))
            self._known[folder] = known
        return [known[1]]


def _ledgers(folder: str, names: Iterable[str]) -> Iterator[Path]:
    """Yield the ledgers among the files of a folder."""
    for name in names:
        if name.endswith(_LEDGER) and is_ledger(path := Path(folder, name)):
            yield path


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    return entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")


def _read(run_id: str, folder: Path, mark: Path) -> RunSummary:
    if mark.name != MANIFEST:
        return RunSummary(id=run_id, folder=folder, ruling="not finished", finished=False)
    try:
        return _summarised(run_id, folder, read_table(mark))
    except (ExpungeError, OSError, KeyError, TypeError, AttributeError, ValueError):
        return RunSummary(id=run_id, folder=folder, ruling="cannot be read", finished=False)


def _summarised(run_id: str, folder: Path, manifest: dict[str, Any]) -> RunSummary:
    attack, verdict = manifest.get("attack"), manifest.get("verdict")
    if verdict is None and attack is None:
        raise KeyError("verdict")
    level = f"{verdict['threat_model']}, {verdict['tier']}" if verdict else ""
    if verdict and verdict["provisional"]:
        level += ", provisional"
    ruling = f"attack: {attack['result']}" if attack else str(verdict and verdict["ruling"])
    return RunSummary(
        id=run_id,
        folder=folder,
        ruling=ruling,
        finished=verdict is not None,
        attack=attack is not None,
        level=level,
        method=str(manifest.get("method") or ("attack" if attack else "audit")),
        model=str(manifest.get("model") or ""),
        created=str(manifest["created"]),
    )
