"""Run folders in the ledger: once each, with models, request, claim and lineage."""

import json
from dataclasses import replace

import pytest

from expunge.errors import ExpungeError
from expunge.evidence.store import EvidenceStore
from expunge.ledger.entries import EntryKind, LegalBasis, ModelOrigin
from expunge.ledger.import_run import import_run, read_run
from expunge.provenance.keys import item_fingerprints
from expunge.provenance.manifest import Retention, write_body, write_manifest
from expunge.utils.io import sha256_json, write_json
from ledgers import DAY, KEY, SIGNING, open_ledger, request
from synthetic_run import PEOPLE, build_run, facts


def finished(folder, *, original="a", unlearned="b", signing=SIGNING):
    run = build_run(folder)
    write_manifest(
        run,
        run_id="4f1c0a2b",
        facts=facts(),
        models={"original": original * 64, "unlearned": unlearned * 64, "gold-0": "9" * 64},
        seeds={"train": 0, "audit": 0},
        data_fingerprints=item_fingerprints(EvidenceStore(run / "evidence").items(), KEY),
        evidence=Retention(sealed=False, expires="2027-01-31", redacted=True),
        signing=signing,
    )
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture
def ledger(tmp_path):
    return open_ledger(tmp_path / "ledger.db")


def entered(ledger, *runs, **given):
    with ledger.writing() as writer:
        return [import_run(writer, read_run(each), today=DAY, **given) for each in runs]


def only(ledger, kind):
    (found,) = ledger.current(kind)
    return found


def test_a_run_brings_models_request_claim_and_artefact(run, ledger):
    (done,) = entered(ledger, run)
    claim, held = only(ledger, EntryKind.CLAIM), only(ledger, EntryKind.RUN)
    assert (done.run, done.claim, done.request) == (held.id, claim.id, "request-1")
    assert (claim.model, claim.original, claim.golds) == ("b" * 64, "a" * 64, ("9" * 64,))
    assert (claim.claim_class, claim.verdict, str(claim.horizon)) == (
        "E1",
        "FAIL-RESIDUAL",
        "2027-01-31",
    )
    made = {each.digest[0]: (each.made, each.parent[:1]) for each in ledger.current("model")}
    assert made == {
        "a": (ModelOrigin.BASE, ""),
        "b": (ModelOrigin.UNLEARNED, "a"),
        "9": (ModelOrigin.GOLD, ""),
    }
    asked = only(ledger, EntryKind.REQUEST)
    assert (asked.basis, len(asked.records), asked.due) == (LegalBasis.UNSTATED, 20, None)
    assert held.signer


def test_a_run_of_attacks_brings_its_result_and_no_claim(tmp_path, ledger):
    run = build_run(tmp_path / "attacked")
    body = {"run": "4f1c0a2b", "created": facts().created, "models": {"unlearned": "b" * 64}}
    write_body(
        run,
        {**body, "attack": {"result": "recovered", "access": "T1", "attacks": []}},
        data_fingerprints={"forget": ["0" * 32]},
        evidence=Retention(sealed=False, expires="2027-01-31", redacted=True),
    )
    (done,) = entered(ledger, run)
    held = only(ledger, EntryKind.RUN)
    assert (held.attack, held.verdict, held.model, done.claim) == ("recovered", "", "b" * 64, "")


def test_a_run_is_entered_once(run, ledger):
    entered(ledger, run)
    (again,) = entered(ledger, run)
    assert not again.is_new
    assert len(ledger.current(EntryKind.RUN)) == 1


@pytest.mark.parametrize("order", [1, -1])
def test_lineage_follows_from_digests_in_any_order(run, ledger, tmp_path, order):
    second = finished(tmp_path / "second", original="b", unlearned="c")
    entered(ledger, *[run, second][::order])
    assert {m.digest[0]: m.parent[:1] for m in ledger.current(EntryKind.MODEL)} == {
        "a": "",
        "9": "",
        "b": "a",
        "c": "b",
    }


def test_the_request_is_the_one_with_the_same_records(run, ledger):
    marks = tuple(json.loads((run / "manifest.json").read_text())["data"]["forget"])
    with ledger.writing() as writer:
        writer.add(request(1))
        writer.add(replace(request(), records=marks))
    assert entered(ledger, run)[0].request == "request-2"


def test_the_request_can_be_named(run, ledger):
    with ledger.writing() as writer:
        writer.add(request(1))
    assert entered(ledger, run, request="request-1")[0].request == "request-1"


def test_no_person_of_the_run_is_in_the_file(run, ledger):
    entered(ledger, run)
    text = ledger.path.read_bytes().decode(errors="replace").casefold()
    assert [name for name in PEOPLE if name.split()[1].casefold() in text] == []
    assert "kovanda-erasure" not in text


def changed(row):
    row["verdict"]["ruling"] = "PASS"


def without_verdict(row):
    del row["models"]
    row["digest"] = sha256_json({k: v for k, v in row.items() if k != "digest"})


@pytest.mark.parametrize("change", [changed, without_verdict])
def test_a_manifest_that_was_changed_is_refused(tmp_path, ledger, change):
    run = finished(tmp_path / "run", signing=None)
    row = json.loads((run / "manifest.json").read_text())
    change(row)
    write_json(run / "manifest.json", row)
    with pytest.raises(ExpungeError, match="manifest-changed"):
        entered(ledger, run)


@pytest.mark.parametrize("name", ["facts.json", "results.json"])
def test_a_claim_never_follows_from_a_file_that_was_changed(tmp_path, ledger, name):
    run = finished(tmp_path / "run")
    row = json.loads((run / name).read_text())
    write_json(run / name, {**row, "exact": "E4"})
    with pytest.raises(ExpungeError, match="manifest-changed"):
        entered(ledger, run)


def test_a_signature_of_another_manifest_is_refused(run, tmp_path, ledger):
    other = finished(tmp_path / "run", unlearned="d")
    (other / "manifest.sig").write_bytes((run / "manifest.sig").read_bytes())
    with pytest.raises(ExpungeError, match="manifest-changed"):
        entered(ledger, other)


def test_a_run_that_has_not_ended_is_named(tmp_path, ledger):
    (tmp_path / "run").mkdir()
    with pytest.raises(ExpungeError, match="no-run"):
        entered(ledger, tmp_path / "run")
