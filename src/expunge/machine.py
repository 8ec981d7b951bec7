"""The machine: what it is, how much memory there is, and how much a run has used."""

import math
import os
import platform
import resource
import sys

import torch

from expunge.container import limits

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


def available_gib(device: torch.device) -> float:
    """Return the memory of the device that a run may use, in GiB; in a container, of its limit."""
    if device.type == "cuda":
        free, _total = torch.cuda.mem_get_info(device)
        # What earlier work of this process has freed stays with it, for its next tensors.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (free + kept) / GIB
    pages = os.sysconf("SC_AVPHYS_PAGES" if sys.platform == "linux" else "SC_PHYS_PAGES")
    free = pages * os.sysconf("SC_PAGE_SIZE") / GIB
    left = limits().free
    return min(max(free, _reclaimable_gib()), math.inf if left is None else left / GIB)


def peak_gib(device: torch.device) -> float:
    """Return the most memory that this process has held so far, in GiB."""
    if device.type == "cuda":
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
