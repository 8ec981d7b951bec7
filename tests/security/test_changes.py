"""Every file of a run folder, changed in several ways: `verify` names the file."""

import shutil
from pathlib import Path

import pytest

from expunge.provenance.verify import verify_published
from fuzzing.changes import (
    CHANGES,
    SIGNING,
    changes,
    files,
    finished_run,
    told_of_model,
    told_of_run,
)
from fuzzing.trials import tally

NEVER = {"config.toml", "manifest.json"}
"""What a synthetic run never agrees with; its own changes are told by what is said of it."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("changed"))


@pytest.fixture
def place(run, tmp_path):
    """Makes the folder of the next trial: a copy of the run, and of its model alone."""

    def copy() -> Path:
        folder = tmp_path / "place"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(run, folder / "run")
        shutil.copytree(run / "model", folder / "model")
        return folder

    return copy


@pytest.mark.parametrize("seed", range(4))
def test_a_change_of_a_run_is_found_by_name(seed, run, place):
    tell = told_of_run(run)
    assert {path for path, _ in tell(run)} <= NEVER
    trials = changes(run, tell, seed, each=2)
    assert len(trials) == 2 * len(files(run)) >= 58
    assert tally(trials, place).broken == ()


def test_a_change_of_a_published_model_is_found_by_name(run, place):
    assert verify_published(run / "model", signer=SIGNING.public).ok
    trials = changes(run / "model", told_of_model, 0, each=len(CHANGES))
    assert tally(trials, place).broken == ()
