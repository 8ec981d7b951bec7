"""The machine: what it is, how much memory there is, and how much a run has used.

The facts of a bug report, without personal data.

What a container leaves to its processes, where it limits them: cores and memory.

Docker, Kubernetes, Slurm and systemd limit a process by Linux control groups, of which the counts
of the operating system say nothing: it goes on to name all cores and all memory of the machine. As
many threads as the machine has cores then wait for each other, and a run that "fits" is killed.

Both versions of control groups are read; a limit of any group above that of the process holds, too.

Memory that was freed stays with the process, for the next pass to use.

By default glibc gives every large buffer back to the system as soon as it is freed, and the next
one of the same size is mapped and zeroed page by page: a step that makes and drops hundreds of
activations takes a fault every 4 KiB. Measured on a forward and backward pass of SmolLM2-135M
(8 x 128 tokens, bf16, one thread): 352,000 faults and 6.55 s of user and system time by default,
5,500 and 5.65 s with buffers kept; peak memory 2.00 and 2.10 GiB.
"""

import math
import os
import platform
import resource
import sys
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch
import shutil

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
_SECOND = ""
"""Controller that the lines of version 2 name: none."""
_UNLIMITED = 2**60
"""Bytes; version 1 writes a number of about 2**63 for no limit."""
_PACKAGES = (
    "expunge",
    "torch",
    "transformers",
    "peft",
    "datasets",
    "safetensors",
    "huggingface-hub",
    "numpy",
    "scipy",
    "cyclopts",
    "rich",
    "pydantic",
    "matplotlib",
    "gguf",
)
_TRUE = frozenset({"1", "true", "yes", "on"})


class Limits(NamedTuple):
    """None: not limited."""

    cores: float | None
    """Processor time a second of the clock."""
    memory: int | None
    """Bytes."""
    free: int | None
    """Bytes of it that are left, those of the file cache among them."""


def cache_folder() -> Path:
    """Return where converted models are kept: `EXPUNGE_CACHE`, or `expunge` in the user's cache."""
    given = os.environ.get("EXPUNGE_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "expunge"


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


GIB = 1024**3


def processor() -> str:
    """Return the name of the processor's model; empty where the system does not tell."""
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - not a user's path
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    return value.strip()
    return platform.processor()


def available_gib(device: "torch.device") -> float:
    """Return the memory of the device that a run may use, in GiB; in a container, of its limit."""
    if device.type == "cuda":
        import torch  # heavy: the command line starts without it

        free, _total = torch.cuda.mem_get_info(device)
        # What earlier work of this process has freed stays with it, for its next tensors.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (free + kept) / GIB
    pages = os.sysconf("SC_AVPHYS_PAGES" if sys.platform == "linux" else "SC_PHYS_PAGES")
    free = pages * os.sysconf("SC_PAGE_SIZE") / GIB
    left = limits().free
    return min(max(free, _reclaimable_gib()), math.inf if left is None else left / GIB)


def peak_gib(device: "torch.device") -> float:
    """Return the most memory that this process has held so far, in GiB."""
    if device.type == "cuda":
        import torch  # heavy: the command line starts without it

        return torch.cuda.max_memory_allocated(device) / GIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / GIB if sys.platform == "darwin" else peak * 1024 / GIB


def _reclaimable_gib() -> float:
    """Return what Linux would give after dropping its file cache; 0 elsewhere."""
    if sys.platform != "linux":
        return 0.0
    with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123 - not a user's path
        rows = dict(line.split(":", 1) for line in file)
    return int(rows["MemAvailable"].split()[0]) * 1024 / GIB


M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
LARGEST = 2**30
"""Bytes; a buffer beyond this, such as the weights of a large model, is still mapped by itself."""


def keep_freed_memory() -> bool:
    """Keep freed buffers; for the command line, which owns its process, never for a library.

    Returns:
        Whether it was done: glibc only, and not where the user has set `MALLOC_*` variables.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    import ctypes  # which `--help` does not need

    mallopt = ctypes.CDLL(None).mallopt
    return mallopt(M_MMAP_THRESHOLD, LARGEST) == 1 and mallopt(M_TRIM_THRESHOLD, 2**31 - 1) == 1


def headline(*, offline: bool) -> str:
    """Return one line: version, cores, memory, closed network. Imports nothing heavy.

    An open network is not mentioned: a request, which is read later, may close it.
    """
    import expunge

    closed = " · offline" if offline or offline_by_environment() else ""
    return f"{expunge.__version__} · {cores()} cores, {memory_gib():.0f} GiB{closed}"


def diagnose(*, offline: bool) -> list[tuple[str, str]]:
    """Return the facts of a bug report as (label, text), for a person to read before pasting.

    Paths are shown relative to the home folder; those outside of it are not shown. Loads torch.

    Args:
        offline: Whether `--offline` was given.
    """
    cache = _hub_cache()
    state = "yes, --offline" if offline else "yes, by HF_HUB_OFFLINE"
    return [
        ("python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("program", _home_relative(Path(sys.executable))),
        ("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("cores", str(cores())),
        ("memory", f"{memory_gib():.1f} GiB"),
        ("devices", ", ".join(_devices())),
        ("offline", state if offline or offline_by_environment() else "no"),
        ("cache", f"{_home_relative(cache)}, {_free_gib(cache):.0f} GiB free"),
        ("here", f"{_home_relative(Path.cwd())}, {_free_gib(Path.cwd()):.0f} GiB free"),
        ("packages", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)),
    ]


@cache
def code_digest() -> str:
    """Return the SHA-256 of the package's own source, files in the order of their names."""
    root = Path(__file__).parent.parent
    digest = sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def cores() -> int:
    """Return the number of CPU cores that this process may use, in a container those of its quota.

    A part of a core counts as one.
    """
    found = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quota = limits().cores
    return found if quota is None else max(1, min(found, math.ceil(quota)))


def memory_gib() -> float:
    """Return the physical memory in GiB, in a container at most its limit."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(found, limits().memory or found) / 2**30


def offline_by_environment() -> bool:
    """Return whether HF_HUB_OFFLINE or EXPUNGE_OFFLINE forbids the network."""
    names = ("HF_HUB_OFFLINE", "EXPUNGE_OFFLINE")
    return any(os.environ.get(name, "").lower() in _TRUE for name in names)


def _devices() -> list[str]:
    import torch

    found = ["cpu"]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            found.append(
                f"cuda:{index} {properties.name} {properties.total_memory / 2**30:.0f} GiB"
            )
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def _hub_cache() -> Path:
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub"))


def _free_gib(path: Path) -> float:
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free / 2**30


def _home_relative(path: Path) -> str:
    try:
        return f"~/{path.relative_to(Path.home())}"
    except ValueError:
        return "outside the home folder"


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
