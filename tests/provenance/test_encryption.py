"""Sealed evidence opens with one key only; destroyed evidence leaves a manifest that verifies."""

import errno
import os
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from expunge.cli.main import main
from expunge.errors import InputError, UsageError
from expunge.evals.assess import assess
from expunge.evidence.store import EvidenceStore
from expunge.provenance import destroy
from expunge.provenance.destroy import destroy_evidence, destroy_store
from expunge.provenance.keys import item_fingerprints
from expunge.provenance.manifest import Retention, write_manifest
from expunge.provenance.verify import verify
from expunge.reporting.build import build_report
from expunge.reporting.schema import write_facts, write_results
from expunge.utils.io import read_json, write_json, write_jsonl
from synthetic_run import build_run, facts, forget_items

KEY = bytes(range(32))
OTHER = bytes(32)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRETS = [*(item.answer for item in forget_items()), *(i.subject or "" for i in forget_items())]


def made(folder: Path, *, sealed: bool, redacted: bool = True) -> Path:
    """A finished run whose numbers follow from its evidence."""
    run = build_run(folder)
    store = EvidenceStore(run / "evidence", key=KEY)
    if sealed:
        items, units = store.items(), {unit: store.rows(unit) for unit in store.units()}
        for path in (run / "evidence").glob("*.jsonl"):
            path.unlink()
        store.seal(KEY)
        store.write_items(items)
        for unit, rows in units.items():
            store.write(unit, rows)
    write_results(run, assess(store))
    with (run / "config.toml").open("a") as file:
        file.write(f"\n[report]\nredact = {str(redacted).lower()}\n")
    told = replace(facts(), created="2025-03-01T09:30:00+00:00")
    write_facts(run, told)
    build_report(run, key=KEY)
    write_manifest(
        run,
        run_id="4f1c0a2b",
        facts=told,
        models={},
        seeds={"train": 0, "audit": 0},
        data_fingerprints=item_fingerprints(store.items(), KEY),
        evidence=Retention(sealed=sealed, expires="2026-03-01", redacted=redacted),
    )
    return run


@pytest.fixture(scope="module")
def open_run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("open") / "run", sealed=False, redacted=False)


@pytest.fixture(scope="module")
def sealed_run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("sealed") / "run", sealed=True)


@pytest.fixture(params=["open", "sealed"])
def run(request, open_run, sealed_run, tmp_path):
    source = open_run if request.param == "open" else sealed_run
    return Path(shutil.copytree(source, tmp_path / "run"))


def bytes_of(run: Path) -> str:
    return "".join(p.read_text("utf-8", "replace") for p in run.rglob("*") if p.is_file())


def test_the_seal_changes_no_number(open_run, sealed_run):
    found = verify(sealed_run, key=KEY, today=date(2026, 2, 1))
    assert (found.problems, found.notes) == ((), ())
    assert found.scores == verify(open_run).scores > 50
    same = [read_json(r / "results.json") for r in (open_run, sealed_run)]
    assert same[0] == same[1]


def test_sealed_files_show_nothing(sealed_run, open_run):
    assert [s for s in SECRETS if s in bytes_of(open_run / "evidence")] == SECRETS
    assert [s for s in SECRETS if s in bytes_of(sealed_run / "evidence")] == []


@pytest.mark.parametrize(("key", "code"), [(None, "evidence-sealed"), (OTHER, "seal-broken")])
def test_only_the_key_opens(sealed_run, key, code):
    with pytest.raises(InputError) as error:
        EvidenceStore(sealed_run / "evidence", key=key).items()
    assert error.value.code == code


def test_a_sealed_file_cannot_stand_in_for_another(sealed_run, tmp_path):
    run = Path(shutil.copytree(sealed_run, tmp_path / "run"))
    gold, own = (
        run / "evidence" / f"{r}.forget.plain.answers.jsonl.sealed" for r in ("gold-0", "unlearned")
    )
    shutil.copy(gold, own)
    store = EvidenceStore(run / "evidence", key=KEY)
    with pytest.raises(InputError, match="changed or renamed"):
        assess(store)


def test_without_the_key_the_files_still_verify(sealed_run):
    found = verify(sealed_run, today=date(2026, 2, 1))
    assert found.ok
    assert found.scores == 0
    assert found.notes == (
        "evidence is sealed and the operator's key is not here: no score recomputed",
    )


def test_destroyed_evidence_is_gone_and_the_manifest_valid(run):
    manifest = (run / "manifest.json").read_bytes()
    done = destroy_evidence(run, key=KEY, only_expired=False, now=NOW)
    assert [path.name for path in (run / "evidence").iterdir()] == ["context.json"]
    assert [s for s in SECRETS if s in bytes_of(run)] == []
    assert (run / "manifest.json").read_bytes() == manifest
    found = verify(run, key=KEY)
    assert found.problems == ()
    assert found.notes == ("evidence destroyed on 2026-03-01: no score can be recomputed any more",)
    assert len(done.files) + found.files == len(read_json(run / "manifest.json")["files"])
    assert destroy_evidence(run, key=KEY, only_expired=False, now=NOW) == done
    with pytest.raises(InputError, match="no evidence"):
        build_report(run, key=KEY)


def test_a_redacted_report_outlives_its_evidence(sealed_run, open_run, tmp_path):
    for source, there in ((sealed_run, True), (open_run, False)):
        run = Path(shutil.copytree(source, tmp_path / source.parent.name))
        destroy_evidence(run, key=KEY, only_expired=False, now=NOW)
        assert (run / "report.html").exists() is there


def test_reports_written_since_are_destroyed_with_the_evidence(sealed_run, open_run, tmp_path):
    for source, masked in ((sealed_run, True), (open_run, False)):
        run = Path(shutil.copytree(source, tmp_path / source.parent.name))
        own = (run / "report.html").read_bytes()
        aside = build_report(run, redact=not masked, key=KEY)
        assert aside.name == ("report-in-full.html" if masked else "report-masked.html")
        assert (run / "report.html").read_bytes() == own
        assert verify(run, key=KEY).ok
        (run / "report.html").write_bytes(own + b" ")
        destroy_evidence(run, key=KEY, only_expired=False, now=NOW)
        assert list(run.glob("*.html")) == []
        assert [s for s in SECRETS if s in bytes_of(run)] == []


def test_a_note_that_somebody_else_made_deletes_nothing(run):
    mine = run.parent / "mine.txt"
    mine.write_text("keep")
    destroy_evidence(run, key=OTHER, only_expired=False, now=NOW)
    note = read_json(run / "evidence-destroyed.json")
    write_json(run / "evidence-destroyed.json", {**note, "files": ["../mine.txt"]})
    with pytest.raises(InputError, match="not this operator's note"):
        destroy_evidence(run, key=KEY, only_expired=False, now=NOW)
    assert mine.exists()


def test_a_manifest_cannot_name_files_outside_of_the_evidence(run):
    mine = run.parent / "mine.txt"
    mine.write_text("keep")
    manifest = read_json(run / "manifest.json")
    manifest["files"]["evidence/../../mine.txt"] = {"sha256": "0" * 64, "bytes": 4}
    write_json(run / "manifest.json", manifest)
    destroy_evidence(run, key=KEY, only_expired=False, now=NOW)
    assert mine.exists()


def test_missing_evidence_without_a_note_is_a_problem(run):
    for path in (run / "evidence").glob("unlearned.*"):
        path.unlink()
    assert not verify(run, key=KEY).ok


@pytest.mark.parametrize("forgery", ["other key", "other run", "model"])
def test_a_forged_note_hides_nothing(run, forgery):
    destroy_evidence(run, key=OTHER if forgery == "other key" else KEY, only_expired=False, now=NOW)
    note = read_json(run / "evidence-destroyed.json")
    if forgery == "other run":
        note["manifest"] = "0" * 64
    if forgery == "model":
        note["files"] += ["results.json"]
    write_json(run / "evidence-destroyed.json", note)
    found = verify(run, key=KEY)
    assert ("evidence-destroyed.json", "is not the operator's note on this run's evidence") in [
        (p.path, p.what) for p in found.problems
    ]
    assert any(p.what == "is missing" for p in found.problems)


def test_expiry_is_said_and_can_be_waited_for(run):
    early = datetime(2026, 2, 28, tzinfo=UTC)
    assert verify(run, key=KEY, today=early.date()).notes == ()
    assert verify(run, key=KEY, today=NOW.date()).notes == (
        "evidence was to be kept until 2026-03-01: expunge evidence destroy run",
    )
    with pytest.raises(UsageError, match="kept until 2026-03-01"):
        destroy_evidence(run, key=KEY, only_expired=True, now=early)
    assert destroy_evidence(run, key=KEY, only_expired=True, now=NOW).files


def test_the_commands(run, tmp_path, monkeypatch, capsys):
    key = tmp_path / "operator.key"
    key.write_bytes(KEY)
    key.chmod(0o600)
    monkeypatch.setenv("EXPUNGE_KEY_FILE", str(key))
    assert main(["evidence", "show", str(run)]) == 0
    assert main(["evidence", "destroy", str(run), "--yes"]) == 0
    assert main(["verify", str(run)]) == 0
    assert "no score can be recomputed" in "".join(capsys.readouterr())


def stored(folder: Path) -> Path:
    """A store of attacks that runs share, with one file in the open and one that is sealed."""
    store = folder / "store"
    for part in ("open", "sealed"):
        write_jsonl(store / part / "attacks" / f"{part}.jsonl", [{"text": SECRETS[0]}])
    write_json(store / "store.json", {"schema": "expunge.attack-store/1", "expires": "2026-03-01"})
    return store


def held(monkeypatch, *ends: str):
    """Have the system refuse to remove the files whose paths end so."""
    real = os.unlink

    def refusing(path, *given, **named):
        if os.fspath(path).endswith(ends):
            raise PermissionError(errno.EPERM, "not permitted")
        real(path, *given, **named)

    monkeypatch.setattr(os, "unlink", refusing)


def test_one_file_that_stays_keeps_no_other(run, monkeypatch):
    """What stays is named and told by `verify`, and the same call goes on."""
    first, second = "evidence/gold-0.", "evidence/unlearned."
    files = sorted(p.relative_to(run).as_posix() for p in (run / "evidence").iterdir())
    stay = [next(name for name in files if name.startswith(start)) for start in (first, second)]
    with monkeypatch.context() as patch:
        held(patch, *stay)
        with pytest.raises(InputError, match="; all else of the evidence there is") as caught:
            destroy_evidence(run, key=KEY, only_expired=False, now=NOW)
    assert caught.value.code == "evidence-left"
    assert all(str(run / name) in caught.value.what for name in stay)
    left = {path.relative_to(run).as_posix() for path in (run / "evidence").iterdir()}
    assert left == {*stay, "evidence/context.json"}
    told = {(each.path, each.what) for each in verify(run, key=KEY).problems}
    assert told == {(name, "was to be destroyed, and is there") for name in stay}
    later = datetime(2026, 3, 2, tzinfo=UTC)
    done = destroy_evidence(run, key=KEY, only_expired=False, now=later)
    assert done.at == NOW.isoformat()
    assert verify(run, key=KEY).ok


def test_a_page_that_cannot_be_read_goes_with_the_evidence(sealed_run, tmp_path, monkeypatch):
    run = Path(shutil.copytree(sealed_run, tmp_path / "run"))

    def unreadable(path):
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(destroy, "sha256_file", unreadable)
    destroy_evidence(run, key=KEY, only_expired=False, now=NOW)
    assert not (run / "report.html").exists()


def test_nothing_is_destroyed_without_a_note(run, monkeypatch):
    def refusing(path, value):
        raise OSError(errno.EROFS, "read-only file system")

    before = set(run.rglob("*"))
    monkeypatch.setattr(destroy, "write_json", refusing)
    with pytest.raises(InputError, match="nothing is destroyed") as caught:
        destroy_evidence(run, key=KEY, only_expired=False, now=NOW)
    assert caught.value.code == "evidence-left"
    assert set(run.rglob("*")) == before


def test_a_store_counts_as_destroyed_only_when_nothing_is_left(tmp_path, monkeypatch):
    store = stored(tmp_path)
    with monkeypatch.context() as patch:
        held(patch, "open.jsonl")
        with pytest.raises(InputError, match=r"could not remove .*attacks/open\.jsonl;") as caught:
            destroy_store(store, only_expired=False, now=NOW)
    assert caught.value.code == "evidence-left"
    assert SECRETS[0] not in str(caught.value)
    files = {path.name for path in store.rglob("*") if path.is_file()}
    assert files == {"open.jsonl", "store.json"}
    assert destroy_store(store, only_expired=False, now=NOW) == 1
    assert list(store.iterdir()) == []


def test_what_a_link_leads_to_is_not_taken_for_destroyed(tmp_path):
    store = stored(tmp_path)
    (store / "open").rename(tmp_path / "elsewhere")
    (store / "open").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="could not remove"):
        destroy_store(store, only_expired=False, now=NOW)
    assert (store / "store.json").exists()
