"""Freed memory stays with the process: counted in page faults, in processes of their own."""

import os
import platform
import subprocess
import sys

import pytest

from expunge.utils.system import keep_freed_memory

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")

CODE = """
import resource, sys
import torch
from expunge.utils.system import keep_freed_memory
assert keep_freed_memory() == (sys.argv[1] == "kept")
def work():  # two at a time: 64 MiB would otherwise be mapped anew for each of them
    for _ in range(20):
        torch.ones(2**24), torch.ones(2**24)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str, **variables: str) -> int:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    words = [sys.executable, "-c", CODE, how]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env={**clean, **variables}
    )
    return int(done.stdout)


def test_buffers_are_used_again() -> None:
    """Without, each 64 MiB buffer costs up to 16,384 faults; with, none but a stray few."""
    assert _faults("kept") < 100
    assert _faults("left", MALLOC_ARENA_MAX="2") > 20 * 1000


def test_what_the_user_has_set_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own settings of the allocator win."""
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    assert not keep_freed_memory()
