"""A process that is killed at any moment loses nothing: the same command ends in the same bits."""

import signal
from pathlib import Path

import pytest

from kill_process import Running, finish, launch, same, stop

FIRST = "evidence/original.retain.plain.scores.jsonl"
TRAINING = "checkpoints/last.safetensors"
AFTER = "evidence/unlearned.forget.plain.scores.jsonl"


def start(world, out: Path) -> Running:
    return launch(
        world.command("--out", str(out), **{"train.steps": "30", "train.check_every": "1"})
    )


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """The folder of an uninterrupted run."""
    place = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPUNGE_KEY_FILE", str(place / "operator.key"))
        finish(start(world, place / "run"))
    return place / "run"


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
