"""How each side of a row has its buffers: `expunge` as its command line, the peer as a script.

The command line keeps freed buffers for the next pass (`expunge.allocator`). A script has glibc's
defaults, which settle where buffers from 32 MiB on are mapped and given back each time; smaller
ones come from a heap. The sides of a row share a process, so the heap is never given back here: a
script would lose a little more time to that than the peer does.
"""

import ctypes
import platform

from expunge.allocator import M_MMAP_THRESHOLD, keep_freed_memory

_SETTLED = 32 * 2**20
"""Bytes; the most that glibc's moving threshold reaches on 64 bits."""


def as_command() -> None:
    """Keep freed buffers, as `expunge` on the command line."""
    keep_freed_memory()


def as_script() -> None:
    """Map large buffers by themselves, as a script of a common kind."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, _SETTLED)
