"""A draw of what `scripts/fuzz.py` tries in full: bad inputs, and commands that are killed."""

import shutil
from pathlib import Path

import pytest

from fuzzing.inputs import inputs, stock
from fuzzing.kills import commands, kills, measured, write_key
from fuzzing.trials import NotHeldError, Trial, alone, tally

MOST = 70


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return stock(tmp_path_factory.mktemp("stock") / "stock")


def copies(of: Path, root: Path):
    def copy() -> Path:
        shutil.rmtree(root / "trial", ignore_errors=True)
        return Path(shutil.copytree(of, root / "trial", symlinks=True))

    return copy


def test_every_bad_input_is_refused_or_valid(files, tmp_path):
    found = tally(inputs(0, most=MOST), copies(files, tmp_path))
    assert found.broken == ()
    assert found.held.total() == MOST
    assert len(found.how) > 15, "as many kinds of errors"


@pytest.mark.parametrize("name", ["forget", "attack"])
def test_what_is_killed_ends_in_the_same_bits(name, world, tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "empty").mkdir()
    for folder in ("whole", "empty"):
        write_key(tmp_path / folder)
    with alone(tmp_path / "whole", patience=0):
        done = measured(name, commands(world)[name], tmp_path / "whole")
    trial = kills(done, tmp_path / "whole" / "run", seed=0, each=2)
    assert tally([trial], copies(tmp_path / "empty", tmp_path), patience=0).broken == ()


def bad(words: str) -> str:
    raise NotHeldError(words)


def reach() -> str:
    import socket

    with pytest.raises(OSError, match="no network"):
        socket.getaddrinfo("example.org", 443)
    return "never"


def test_what_is_not_held_is_told(tmp_path):
    told: list[str] = []
    trials = [
        Trial(what="a", kind="k", run=lambda: "held"),
        Trial(what="b", kind="k", run=lambda: bad("why")),
        Trial(what="c", kind="k", run=reach),
    ]
    found = tally(trials, lambda: tmp_path, told=told.append)
    assert (found.tried["k"], found.held["k"]) == (3, 1)
    assert [what for what, _ in found.broken] == ["k: b", "k: c"]
    assert "example.org" in told[1]
