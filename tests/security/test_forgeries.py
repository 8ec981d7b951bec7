"""Forgeries of a finished run, see `fuzzing.forgeries`: a quarter of them, and what is said."""

import shutil
from pathlib import Path

import pytest

from expunge.cli.main import main
from expunge.provenance.keys import key_path, operator_key
from expunge.provenance.signature import (
    SigningKey,
    key_fingerprint,
    make_signing_key,
    write_signature,
)
from expunge.provenance.verify import verify
from expunge.reporting.schema import read_facts
from expunge.utils.io import json_text, read_json, sha256_file, sha256_json
from fuzzing.forgeries import (
    FORGERIES,
    Forgery,
    destroyed,
    forget_answers,
    held,
    put,
    signed_run,
    write_again,
)
from fuzzing.trials import NotHeldError

ADDED = {
    "a.lock": "is not in the manifest",
    ".lock": "is not in the manifest",
    "checkpoints/state": "is not in the manifest",
    "evidence/more.lock": "is not in the manifest",
    "manifest.sig": "cannot be read",
    "report-masked.html": "is not the page that the evidence gives",
    "report-in-full.html": "is not the page that the evidence gives",
    "model/more.txt": "is not in the manifest",
}
"""Files that somebody adds, the manifest left as it is, and what is said of each."""


@pytest.fixture(scope="module")
def signed(world, tmp_path_factory):
    """A finished run, signed, beside the models of the world; and the keys."""
    place = tmp_path_factory.mktemp("signed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("EXPUNGE_CACHE", str(place / "cache"))
        patch.setenv("EXPUNGE_KEY_FILE", str(place / "operator.key"))
        patch.setenv("EXPUNGE_SIGNING_KEY", str(place / "signing.key"))
        yield signed_run(world, place)


@pytest.fixture
def place(signed, tmp_path, monkeypatch):
    shutil.copytree(signed, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("EXPUNGE_KEY_FILE", str(tmp_path / "operator.key"))
    monkeypatch.setenv("EXPUNGE_SIGNING_KEY", str(tmp_path / "signing.key"))
    return tmp_path


def key_of(place: Path) -> bytes:
    return operator_key(key_path(), run=place / "run")


def test_the_run_itself_is_verified_and_signed(place, capsys):
    key = make_signing_key(place / "signing.key")
    found = verify(place / "run", key=key_of(place), signer=key.public)
    assert found.problems == ()
    assert found.signer == key_fingerprint(key.public)
    assert main(["verify", str(place / "run"), "--key", str(place / "signing.key.pub")]) == 0
    assert f"by {found.signer}" in capsys.readouterr().out
    report = (place / "run" / "model" / "report.html").read_text(encoding="utf-8")
    assert found.signer in report
    (place / "run" / "manifest.sig").unlink()
    assert main(["verify", str(place / "run")]) == 3
    assert f"is not that of {found.signer}" in capsys.readouterr().out
    assert main(["verify", str(place / "run"), "--key", str(place / "signing.key.pub")]) == 3


def test_the_model_folder_alone_is_verified_as_far_as_it_goes(place, tmp_path, capsys):
    sent = shutil.copytree(place / "run" / "model", tmp_path / "sent")
    key = str(place / "signing.key.pub")
    assert main(["verify", str(sent), "--key", key]) == 0
    told = capsys.readouterr().out
    assert "their evidence is not published" in told
    assert f"by {read_facts(place / 'run').signer}" in told
    shutil.copy(place / "original" / "model.safetensors", sent)
    manifest = read_json(sent / "manifest.json")
    manifest["files"]["model.safetensors"]["sha256"] = sha256_file(sent / "model.safetensors")
    body = {name: value for name, value in manifest.items() if name != "digest"}
    (sent / "manifest.json").write_text(json_text({**body, "digest": sha256_json(body)}))
    assert main(["verify", str(sent), "--key", key]) == 3
    told = capsys.readouterr().out
    assert "holds other weights than those that were audited" in told
    assert "does not fit the manifest" in told


@pytest.mark.parametrize("forgery", FORGERIES[::4], ids=lambda forgery: forgery.what)
def test_a_forgery_is_found(forgery, place):
    told = f"by {forgery.found}" if forgery.found else "by the signature alone"
    assert held(forgery, place) == told


@pytest.mark.parametrize("change", [lambda run, manifest: None, put("model/more.txt")])
def test_what_a_forgery_does_not_do_is_not_found(change, place):
    with pytest.raises(NotHeldError, match=r"results\.json is not named"):
        held(Forgery(what="", change=change, found="results.json"), place)


def test_every_file_that_is_added_is_found(place):
    for name in ADDED:
        put(name)(place / "run", {})
    found = {each.path: each.what for each in verify(place / "run", key=key_of(place)).problems}
    assert found.keys() == ADDED.keys()
    assert [name for name, what in ADDED.items() if what not in found[name]] == []


def test_whoever_signs_a_forgery_signs_with_another_key(place):
    run = place / "run"
    manifest = read_json(run / "manifest.json")
    forget_answers(run, manifest)
    forger, signer = SigningKey(seed=bytes(32)), make_signing_key(place / "signing.key")
    write_again(run, manifest, forger)
    write_signature(run, (run / "manifest.json").read_bytes(), forger)
    assert verify(run).signer == key_fingerprint(forger.public) != key_fingerprint(signer.public)
    (problem,) = verify(run, signer=signer.public).problems
    assert (problem.path, problem.what[:17]) == ("manifest.sig", "is by another key")


def test_a_signed_run_needs_a_signed_note_of_destruction(place):
    run = place / "run"
    destroyed(run, read_json(run / "manifest.json"))
    (problem,) = [p for p in verify(run).problems if p.path == "evidence-destroyed.json"]
    assert "not signed by the key that signed the manifest" in problem.what


def test_the_owner_may_destroy(place, capsys):
    assert main(["evidence", "destroy", str(place / "run"), "--yes"]) == 0
    assert main(["verify", str(place / "run"), "--key", str(place / "signing.key.pub")]) == 0
    assert "evidence destroyed on" in capsys.readouterr().out
