"""Every file of a run folder, changed in every simple way: `verify` names the file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from expunge.evals.results import Results
from expunge.evidence.store import EvidenceStore
from expunge.provenance.keys import item_fingerprints
from expunge.provenance.manifest import Retention, write_manifest
from expunge.provenance.signature import SigningKey
from expunge.provenance.verify import verify, verify_published
from expunge.reporting.build import build_public_report, build_report
from expunge.reporting.card import build_card
from expunge.reporting.schema import read_results, write_facts
from synthetic_run import build_run, facts

KEY = bytes(range(32))
SIGNING = SigningKey(seed=KEY)
CHANGES: dict[str, Callable[[bytes], bytes | None]] = {
    "removed": lambda data: None,
    "emptied": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "one bit": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + rest(data),
    "one byte more": lambda data: data + b"\n",
    "written twice": lambda data: data + data,
    "junk": lambda data: bytes(len(data)),
}
NEVER = {"config.toml", "manifest.json"}
"""What a synthetic run never agrees with; its own changes are told by what is said of it."""


def rest(data: bytes) -> bytes:
    return data[len(data) // 2 + 1 :]


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


def told(run: Path, saved: Results) -> set[tuple[str, str]]:
    found = verify(run, assess=lambda store: saved, key=KEY, signer=SIGNING.public)
    return {(problem.path, problem.what) for problem in found.problems}


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_of_a_run_is_found_by_name(kind, run):
    saved = read_results(run)
    usual = told(run, saved)
    assert {path for path, _ in usual} <= NEVER
    tried = 0
    for path in files(run):
        name, data = path.relative_to(run).as_posix(), path.read_bytes()
        changed = CHANGES[kind](data) if data else None
        if changed == data or (name == "manifest.json" and changed is None):
            continue
        tried += 1
        try:
            path.unlink() if changed is None else path.write_bytes(changed)
            assert name in {path for path, _ in told(run, saved) - usual}, (kind, name)
        finally:
            path.write_bytes(data)
    assert tried >= 29
    assert told(run, saved) == usual


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_of_a_published_model_is_found_by_name(kind, run):
    folder = run / "model"
    assert verify_published(folder, signer=SIGNING.public).ok
    for path in files(folder):
        data = path.read_bytes()
        changed = CHANGES[kind](data)
        if path.name == "manifest.json" and changed is None:
            continue
        try:
            path.unlink() if changed is None else path.write_bytes(changed)
            found = verify_published(folder, signer=SIGNING.public).problems
            assert path.name in {problem.path for problem in found}, (kind, path.name)
        finally:
            path.write_bytes(data)
