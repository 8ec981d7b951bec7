"""Commands in processes of their own, stopped at a chosen moment, and what must come of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import expunge

PATIENCE = 120


def launch(words: Sequence[str]) -> subprocess.Popen:
    """Start `expunge` with these words."""
    return subprocess.Popen(
        [sys.executable, "-m", "expunge", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # A shell starts its background jobs deaf to Ctrl-C, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def stop(process: subprocess.Popen, moment: Path, kind: signal.Signals) -> str:
    """Send a signal once a file is there; return what the process said on stderr."""
    deadline = time.monotonic() + PATIENCE
    while not moment.exists():
        assert process.poll() is None, f"ended before {moment.name}: {process.stderr.read()}"
        assert time.monotonic() < deadline, f"{moment.name} never came"
        time.sleep(0.002)
    process.send_signal(kind)
    said = process.communicate(timeout=PATIENCE)[1]
    expected = 130 if kind is signal.SIGINT else -kind
    assert process.returncode == expected, said
    return said


def finish(process: subprocess.Popen) -> None:
    """Wait until a command has ended well."""
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0, said


def same(whole: Path, run: Path) -> None:
    """Model, scores and every piece of evidence are equal bit for bit; nothing is left over."""
    made, expected = (folder / "model" / "model.safetensors" for folder in (run, whole))
    assert made.read_bytes() == expected.read_bytes()
    assert (run / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    ours, theirs = evidence_of(run), evidence_of(whole)
    assert sorted(ours) == sorted(theirs), set(ours) ^ set(theirs)
    different = [name for name in ours if ours[name] != theirs[name]]
    assert different == [], different
    names = [{p.relative_to(folder) for p in folder.rglob("*")} for folder in (whole, run)]
    assert names[0] == names[1]
    assert expunge.verify(run).problems == ()


TIMED = "preregistration.json"


def evidence_of(run: Path) -> dict[str, bytes | None]:
    """Files of the evidence; those that hold times by name alone: attacks, and the registration."""
    folder = run / "evidence"
    files = [path for path in folder.rglob("*") if path.is_file()]
    plain = {path for path in files if path.parent == folder and path.name != TIMED}
    return {
        str(path.relative_to(folder)): path.read_bytes() if path in plain else None
        for path in files
    }
