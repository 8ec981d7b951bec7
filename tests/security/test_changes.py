"""Every file of a run folder, changed in several ways: `verify` names the file."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from expunge.evidence.store import EvidenceStore
from expunge.provenance.keys import item_fingerprints
from expunge.provenance.manifest import Retention, write_manifest
from expunge.provenance.signature import SigningKey
from expunge.provenance.verify import verify, verify_published
from expunge.reporting.build import build_public_report, build_report
from expunge.reporting.card import build_card
from expunge.reporting.schema import read_results, write_facts
from fuzzing.changes import CHANGES, Told, changes, files
from fuzzing.trials import tally
from synthetic_run import build_run, facts

KEY = bytes(range(32))
SIGNING = SigningKey(seed=KEY)
NEVER = {"config.toml", "manifest.json"}
"""What a synthetic run never agrees with; its own changes are told by what is said of it."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = build_run(tmp_path_factory.mktemp("changed") / "run", kept=False)
    (folder / "model").mkdir()
    (folder / "model" / "weights.bin").write_bytes(bytes(range(64)))
    made = replace(facts(), versions={"expunge": "0.0.0"})  # then pages are not written again
    write_facts(folder, made)
    build_report(folder)
    build_public_report(folder)
    build_card(folder)
    write_manifest(
        folder,
        run_id="4f1c0a2b",
        facts=made,
        models={"unlearned": "b" * 64},
        seeds={"train": 0, "audit": 0},
        data_fingerprints=item_fingerprints(EvidenceStore(folder / "evidence").items(), KEY),
        evidence=Retention(sealed=False, expires="2028-01-14", redacted=True),
        signing=SIGNING,
    )
    return folder


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


def told(saved) -> Told:
    def tell(folder: Path) -> Told:
        found = verify(folder, assess=lambda store: saved, key=KEY, signer=SIGNING.public)
        return {(problem.path, problem.what) for problem in found.problems}

    return tell


def told_of_model(folder: Path) -> Told:
    found = verify_published(folder, signer=SIGNING.public)
    return {(problem.path, problem.what) for problem in found.problems}


@pytest.mark.parametrize("seed", range(4))
def test_a_change_of_a_run_is_found_by_name(seed, run, place):
    tell = told(read_results(run))
    assert {path for path, _ in tell(run)} <= NEVER
    trials = changes(run, tell, seed, each=2)
    assert len(trials) == 2 * len(files(run)) >= 58
    assert tally(trials, place).broken == ()


def test_a_change_of_a_published_model_is_found_by_name(run, place):
    assert verify_published(run / "model", signer=SIGNING.public).ok
    trials = changes(run / "model", told_of_model, 0, each=len(CHANGES))
    assert tally(trials, place).broken == ()
