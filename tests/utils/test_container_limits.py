"""Limits of control groups, from files as Linux writes them."""

import os

import pytest
import torch

from expunge.cli import session
from expunge.utils import system
from expunge.utils.system import Limits, limits

NONE = str(2**63 - 4096)
"""What version 1 writes where memory is not limited."""
CASES = {
    "no control groups": ("", {}, Limits(None, None, None)),
    "version 2, nothing limited": (
        "0::/\n",
        {"cpu.max": "max 100000\n", "memory.max": "max\n", "memory.current": "5\n"},
        Limits(None, None, None),
    ),
    "version 2, a container": (
        "0::/\n",
        {
            "cpu.max": "150000 100000\n",
            "memory.max": "1000\n",
            "memory.current": "700\n",
            "memory.stat": "anon 400\ninactive_file 250\n",
        },
        Limits(1.5, 1000, 550),
    ),
    "version 2, the tightest of the groups above": (
        "0::/slice/job\n",
        {
            "cpu.max": "100000 100000\n",
            "slice/cpu.max": "400000 100000\n",
            "slice/memory.max": "1000\n",
            "slice/memory.current": "990\n",
            "slice/job/memory.max": "800\n",
            "slice/job/memory.current": "100\n",
        },
        Limits(1.0, 800, 10),
    ),
    "version 2, more used than there may be": (
        "0::/\n",
        {"memory.max": "1000\n", "memory.current": "1200\n"},
        Limits(None, 1000, 0),
    ),
    "version 1, seen from within, where the path is not mounted": (
        "9:memory:/docker/1f\n4:cpu,cpuacct:/docker/1f\n1:name=systemd:/docker/1f\n0::/\n",
        {
            "memory/memory.limit_in_bytes": "4000\n",
            "memory/memory.usage_in_bytes": "1500\n",
            "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 500\n",
            "cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
        Limits(0.5, 4000, 3000),
    ),
    "version 1, nothing limited": (
        "9:memory:/\n4:cpu,cpuacct:/\n",
        {
            "memory/memory.limit_in_bytes": f"{NONE}\n",
            "memory/memory.usage_in_bytes": "1500\n",
            "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
        Limits(None, None, None),
    ),
}


@pytest.mark.parametrize(("own", "files", "expected"), CASES.values(), ids=CASES)
def test_the_tightest_limit_holds(tmp_path, own, files, expected):
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    (tmp_path / "own").write_text(own, encoding="ascii")
    assert limits(tmp_path / "groups", tmp_path / "own") == expected


def test_a_system_without_control_groups_limits_nothing(tmp_path):
    assert limits(tmp_path, tmp_path / "none") == Limits(None, None, None)


@pytest.fixture
def contained(monkeypatch):
    """A container with one and a half cores and 2 GiB, half a GiB of it free."""
    found = Limits(1.5, 2 * system.GIB, system.GIB // 2)
    for module in (system, session):
        monkeypatch.setattr(module, "limits", lambda: found)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)


@pytest.mark.usefixtures("contained")
def test_a_container_is_the_machine():
    assert system.cores() == 2
    assert system.memory_gib() == pytest.approx(2)
    assert system.available_gib(torch.device("cpu")) == pytest.approx(0.5)


def test_memory_of_a_card_that_the_process_has_freed_is_there_for_its_next_run(monkeypatch):
    held = {"mem_get_info": (20, 80), "memory_reserved": 50, "memory_allocated": 15}
    for name, gib in held.items():
        found = tuple(n * system.GIB for n in gib) if isinstance(gib, tuple) else gib * system.GIB
        monkeypatch.setattr(torch.cuda, name, lambda device, found=found: found)
    assert system.available_gib(torch.device("cuda")) == pytest.approx(55)


@pytest.mark.usefixtures("contained")
@pytest.mark.parametrize(("set_by_user", "threads"), [(None, "2"), ("7", "7")])
def test_threads_are_those_of_the_quota_unless_the_user_says(set_by_user, threads, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if set_by_user is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", set_by_user)
    session.cap_threads()
    assert os.environ["OMP_NUM_THREADS"] == threads


def test_without_a_quota_threads_are_left_to_the_libraries(monkeypatch):
    monkeypatch.setattr(session, "limits", lambda: Limits(None, None, None))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    session.cap_threads()
    assert "OMP_NUM_THREADS" not in os.environ
