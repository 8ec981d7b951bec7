"""What a container leaves to its processes, where it limits them: cores and memory.

Docker, Kubernetes, Slurm and systemd limit a process by Linux control groups, of which the counts
of the operating system say nothing: it goes on to name all cores and all memory of the machine. As
many threads as the machine has cores then wait for each other, and a run that "fits" is killed.

Both versions of control groups are read; a limit of any group above that of the process holds, too.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
_SECOND = ""
"""Controller that the lines of version 2 name: none."""
_UNLIMITED = 2**60
"""Bytes; version 1 writes a number of about 2**63 for no limit."""


class Limits(NamedTuple):
    """None: not limited."""

    cores: float | None
    """Processor time a second of the clock."""
    memory: int | None
    """Bytes."""
    free: int | None
    """Bytes of it that are left, those of the file cache among them."""


def limits(root: Path = ROOT, own: Path = OWN) -> Limits:
    """Return the tightest limits of the groups that the process is in.

    Args:
        root: Where the groups are mounted.
        own: File that names the groups of the process.
    """
    cores: list[float] = []
    memory: list[int] = []
    free: list[int] = []
    for controllers, folder in _folders(root, own):
        if controllers in (_SECOND, "cpu"):
            quota = _quota(folder, second=controllers == _SECOND)
            cores += [] if quota is None else [quota]
        if controllers in (_SECOND, "memory"):
            limit = _memory(folder, second=controllers == _SECOND)
            if limit is not None:
                memory.append(limit[0])
                free.append(limit[0] - limit[1])
    return Limits(
        min(cores, default=None), min(memory, default=None), max(0, min(free)) if free else None
    )


def _folders(root: Path, own: Path) -> Iterator[tuple[str, Path]]:
    """Yield controller and folder of each group of the process, and of those above it."""
    for line in _text(own).splitlines():
        _number, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            # Version 1 mounts each set of controllers below a name of its own.
            top = root / controllers if controllers else root
            place = top / path.lstrip("/")
            while place != top:
                yield controller, place
                place = place.parent
            yield controller, top


def _quota(folder: Path, *, second: bool) -> float | None:
    if second:
        quota, _, period = _text(folder / "cpu.max").partition(" ")
    else:
        quota, period = (_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    if not quota.strip().isdigit() or not period.strip().isdigit():  # `max`, -1, or no such file
        return None
    return int(quota) / int(period)


def _memory(folder: Path, *, second: bool) -> tuple[int, int] | None:
    """Return the limit of a group, and what is used of it beside the file cache."""
    names = ("max", "current") if second else ("limit_in_bytes", "usage_in_bytes")
    limit, used = (_text(folder / f"memory.{name}").strip() for name in names)
    if not limit.isdigit() or int(limit) > _UNLIMITED:
        return None
    cache = "inactive_file" if second else "total_inactive_file"
    rows = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines())
    return int(limit), max(0, int(used or 0) - int(rows.get(cache, 0)))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:  # not Linux, not mounted, or a group above that is hidden
        return ""
