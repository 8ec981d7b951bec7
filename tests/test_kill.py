"""A process that is killed at any moment loses nothing: the same command ends in the same bits."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import expunge

PATIENCE = 120
FIRST = "evidence/original.retain.plain.scores.jsonl"
TRAINING = "checkpoints/last.safetensors"
AFTER = "evidence/unlearned.forget.plain.scores.jsonl"


def start(world, out: Path) -> subprocess.Popen:
    words = world.command("--out", str(out), **{"train.steps": "30", "train.check_every": "1"})
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
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0, said


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """The folder of an uninterrupted run."""
    place = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPUNGE_KEY_FILE", str(place / "operator.key"))
        finish(start(world, place / "run"))
    return place / "run"


def same(whole: Path, run: Path) -> None:
    """Model, scores and every piece of evidence are equal bit for bit; nothing is left over."""
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert (run / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    evidence = {path.name: path.read_bytes() for path in (whole / "evidence").iterdir()}
    assert {path.name: path.read_bytes() for path in (run / "evidence").iterdir()} == evidence
    names = [{p.relative_to(folder) for p in folder.rglob("*")} for folder in (whole, run)]
    assert names[0] == names[1]
    assert expunge.verify(run).problems == ()


def test_a_run_killed_before_while_and_after_training_ends_in_the_same_bits(world, whole, bench):
    out = bench / "run"
    said = stop(start(world, out), out / FIRST, signal.SIGINT)
    assert "Traceback" not in said
    assert "error[interrupted]: stopped on request" in said
    assert "run the same command again" in said
    for moment in (TRAINING, AFTER):
        stop(start(world, out), out / moment, signal.SIGKILL)
        assert not (out / "manifest.json").exists(), "killed too late to prove anything"
    (out / "evidence" / ".torn.jsonl.0.part").write_text("{")  # as if killed while it wrote
    finish(start(world, out))
    same(whole, out)
