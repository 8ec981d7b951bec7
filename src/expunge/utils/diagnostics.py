"""What this machine is: the facts of a bug report, without personal data."""

import math
import os
import platform
import shutil
import sys
from pathlib import Path

from expunge.utils.system import limits

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
    cache = _cache_folder()
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


def _cache_folder() -> Path:
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
