"""`torchrun -m expunge`: one process speaks and writes, a lost process is a clear error, and the
same command resumes with any number of processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import expunge
from expunge.cli import main

PATIENCE = 200


def words_of(world, out, **flags: str) -> list[str]:
    return world.command(
        "--out", str(out), "--full", **{"train.check_every": "1", "train.lr": "1e-4", **flags}
    )


def start(world, out, *, count: int, **flags: str) -> subprocess.Popen:
    # The launcher looks after its processes rarely: the one that is left speaks before it is ended.
    launcher = ["-m", "torch.distributed.run", "--standalone", "--monitor-interval", "3"]
    command = [sys.executable, *launcher, "--nproc-per-node", str(count)]
    return subprocess.Popen(
        [*command, "-m", "expunge", *words_of(world, out, **flags)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def follower(launcher: int) -> int:
    """The process id of rank 1 of a running torchrun."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(launcher)], capture_output=True, text=True, check=True
    )
    for pid in map(int, listed.stdout.split()):
        if b"\0RANK=1\0" in b"\0" + Path(f"/proc/{pid}/environ").read_bytes():
            return pid
    raise AssertionError("there is no second process")


def test_a_lost_process_is_a_clear_error_and_one_process_goes_on(world, bench):
    out = bench / "run"
    running = start(world, out, count=2, **{"train.steps": "12"})
    moment = out / "checkpoints" / "last.safetensors"
    deadline = time.monotonic() + PATIENCE
    while not moment.exists():
        assert running.poll() is None, running.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(follower(running.pid), signal.SIGKILL)
    said, errors = running.communicate(timeout=PATIENCE)
    assert running.returncode != 0
    assert "error[bug]" not in errors
    words = [line.split()[0] for line in said.splitlines() if line.strip()]
    assert words.count("model") == words.count("expunge") == 1  # of two processes one speaks
    assert "error[process-ended]" in errors
    assert not (out / "manifest.json").exists(), "killed too late to prove anything"
    assert list(moment.parent.glob("last.*.1-of-2.safetensors"))

    assert main(words_of(world, out, **{"train.steps": "12"})) == 0
    assert json.loads((out / "facts.json").read_text())["train"]["steps"] == 12
    assert expunge.verify(out).problems == ()
