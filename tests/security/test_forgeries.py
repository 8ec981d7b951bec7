"""Forgeries: a finished run is changed, and its manifest written anew over what lies there then.

A signature finds all of them. Without one, what no longer belongs together is found by name.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

import expunge
from expunge.cli.main import main
from expunge.evals.assess import assess
from expunge.evidence.store import EvidenceStore
from expunge.provenance.destroy import destroy_evidence
from expunge.provenance.keys import key_path, operator_key
from expunge.provenance.manifest import covered
from expunge.provenance.published import write_public_manifest
from expunge.provenance.signature import (
    SigningKey,
    key_fingerprint,
    make_signing_key,
    read_signature,
    write_signature,
)
from expunge.provenance.verify import verify
from expunge.reporting.build import build_public_report, build_report
from expunge.reporting.card import build_card
from expunge.reporting.schema import read_facts, write_facts, write_results
from expunge.utils.io import json_text, read_json, sha256_file, sha256_json, write_json

NOBODY = None
"""Consistent in itself: nothing but a signature finds it."""


@dataclass(frozen=True, kw_only=True)
class Forgery:
    """A change, and which file of the folder tells of it without a signature."""

    what: str
    change: Callable[[Path, dict], object]
    found: str | None


def edit(name: str, old: str, new: str) -> Callable[[Path, dict], object]:
    def change(run: Path, _: dict) -> None:
        text = (run / name).read_text(encoding="utf-8")
        assert old in text
        (run / name).write_text(text.replace(old, new), encoding="utf-8")

    return change


def field(name: str, *keys: str, to: object) -> Callable[[Path, dict], object]:
    """Set a field of a JSON file."""

    def change(run: Path, manifest: dict) -> None:
        whole = manifest if name == "manifest.json" else read_json(run / name)
        row = whole
        for key in keys[:-1]:
            row = row[key]
        row[keys[-1]] = to(row[keys[-1]]) if callable(to) else to
        if whole is not manifest:
            write_json(run / name, whole)

    return change


def weights(model: str) -> Callable[[Path, dict], object]:
    return lambda run, _: shutil.copy(run.parent / model / "model.safetensors", run / "model")


def recompute(run: Path) -> None:
    """Write results and pages again from the evidence that lies there now, signed by nobody."""
    write_results(run, assess(EvidenceStore(run / "evidence")))
    write_facts(run, replace(read_facts(run), signer=""))
    build_report(run)
    build_public_report(run)
    build_card(run)


def forget_answers(run: Path, _: dict) -> None:
    """Let the unlearned model answer nothing, and compute everything again."""
    for path in (run / "evidence").glob("unlearned.forget.*.answers.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**row, "text": "no"}) + "\n" for row in rows))
    recompute(run)


def loosen(run: Path, _: dict) -> None:
    field("evidence/context.json", "policy", "residual", to=0.9)(run, _)
    recompute(run)


def loosen_everywhere(run: Path, manifest: dict) -> None:
    """Also in the settings and in what was registered before."""
    loosen(run, manifest)
    edit("config.toml", "residual = 0.1\n", "residual = 0.9\n")(run, manifest)
    field("evidence/preregistration.json", "rules", "policy", "residual", to=0.9)(run, manifest)
    row = read_json(run / "evidence" / "preregistration.json")
    row.pop("schema")
    manifest["preregistration"]["digest"] = sha256_json(row)
    recompute(run)


def put(name: str, text: str = "a note to whom it may concern") -> Callable[[Path, dict], object]:
    def change(run: Path, _: dict) -> None:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text(text)

    return change


def destroyed(run: Path, manifest: dict) -> None:
    """Remove all evidence and write the note of somebody else."""
    copy = run.parent / "copy"
    shutil.copytree(run, copy)
    write_json(copy / "manifest.json", manifest)
    now = datetime.now(UTC)
    destroy_evidence(copy, key=bytes(32), only_expired=False, now=now)
    shutil.copy(copy / "evidence-destroyed.json", run)
    shutil.rmtree(run / "evidence")
    shutil.copytree(copy / "evidence", run / "evidence")


CONFIG, MANIFEST = "config.toml", "manifest.json"
FORGERIES = [
    Forgery(what="the original's weights", change=weights("original"), found="model"),
    Forgery(what="a gold's weights", change=weights("gold"), found="model"),
    Forgery(what="answers, with recomputed results", change=forget_answers, found=NOBODY),
    Forgery(
        what="a score",
        change=field("results.json", "gates", to=lambda gates: gates[:-1]),
        found="results.json",
    ),
    Forgery(what="margins", change=loosen, found=CONFIG),
    Forgery(what="margins in every file", change=loosen_everywhere, found=NOBODY),
    Forgery(
        what="other fingerprints",
        change=field(MANIFEST, "data", "forget", to=lambda rows: [r[::-1] for r in rows]),
        found=MANIFEST,
    ),
    Forgery(
        what="a fingerprint less",
        change=field(MANIFEST, "data", "forget", to=lambda rows: rows[1:]),
        found=MANIFEST,
    ),
    Forgery(
        what="another goal",
        change=edit(CONFIG, 'goal = "removal"', 'goal = "suppression"'),
        found=CONFIG,
    ),
    Forgery(
        what="another method",
        change=edit(CONFIG, 'name = "npo"', 'name = "rmu"'),
        found=CONFIG,
    ),
    Forgery(
        what="the report", change=edit("report.html", "</h1>", " passed</h1>"), found="report.html"
    ),
    Forgery(
        what="the card",
        change=edit("model/README.md", "# ", "# Certified: "),
        found="model/README.md",
    ),
    Forgery(
        what="the published report",
        change=edit("model/report.html", "</h1>", " passed</h1>"),
        found="model/report.html",
    ),
    Forgery(
        what="the date",
        change=field("facts.json", "created", to="2020-01-01T00:00:00+00:00"),
        found=MANIFEST,
    ),
    Forgery(
        what="the retention",
        change=field(MANIFEST, "evidence", "expires", to="2090-01-01"),
        found=CONFIG,
    ),
    Forgery(what="a seed", change=field(MANIFEST, "seeds", "train", to=7), found=CONFIG),
    Forgery(what="the run id", change=field(MANIFEST, "run", to="0" * 8), found="run.json"),
    Forgery(
        what="evidence of another model",
        change=field("evidence/context.json", "models", "unlearned", to="0" * 64),
        found="model",
    ),
    Forgery(what="a note of destruction", change=destroyed, found="evidence-destroyed.json"),
]
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
"""A file that somebody adds, the manifest left as it is, and what is said of it."""


@pytest.fixture(scope="module")
def signed(world, tmp_path_factory):
    """A finished run, signed, beside the models of the world; and the keys."""
    place = tmp_path_factory.mktemp("signed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("EXPUNGE_CACHE", str(place / "cache"))
        patch.setenv("EXPUNGE_KEY_FILE", str(place / "operator.key"))
        patch.setenv("EXPUNGE_SIGNING_KEY", str(place / "signing.key"))
        make_signing_key(place / "signing.key")
        expunge.forget(world.settings(out=str(place / "run")))
        yield place


@pytest.fixture
def place(signed, world, tmp_path, monkeypatch):
    for name in ("run", "operator.key", "signing.key", "signing.key.pub"):
        copy = shutil.copytree if (signed / name).is_dir() else shutil.copy
        copy(signed / name, tmp_path / name)
    for name in ("original", "gold"):
        shutil.copytree(world.folder / name, tmp_path / name)
    monkeypatch.setenv("EXPUNGE_KEY_FILE", str(tmp_path / "operator.key"))
    monkeypatch.setenv("EXPUNGE_SIGNING_KEY", str(tmp_path / "signing.key"))
    return tmp_path


def key_of(place: Path) -> bytes:
    return operator_key(key_path(), run=place / "run")


def write_again(run: Path, manifest: dict, signing: SigningKey | None = None) -> None:
    """Write manifests that fit what lies there now, as whoever holds no key can."""
    body = {name: value for name, value in manifest.items() if name != "digest"}
    verdict = read_json(run / "results.json")["verdict"]
    body["verdict"] = {name: verdict[name] for name in body["verdict"]}
    models = read_json(run / "evidence" / "context.json")["models"]
    body["models"] = dict(sorted(models.items()))
    write_public_manifest(run, body, signing=signing)
    gone = body["files"] if not (run / "evidence" / "items.jsonl").exists() else {}
    named = {path.relative_to(run).as_posix(): path for path in covered(run)}
    body["files"] = gone or {
        name: {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for name, path in named.items()
    }
    (run / "manifest.json").write_text(json_text({**body, "digest": sha256_json(body)}))


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


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.what)
def test_a_forgery_is_found(forgery, place):
    run = place / "run"
    manifest = read_json(run / "manifest.json")
    forgery.change(run, manifest)
    write_again(run, manifest)
    signature = read_signature(run)
    assert signature is not None
    assert not signature.fits or forgery.what == "a note of destruction"
    (run / "manifest.sig").unlink()
    found = verify(run, key=key_of(place))
    paths = {problem.path for problem in found.problems}
    if forgery.found is NOBODY:
        assert paths == set()
        assert found.signer == ""
    else:
        assert forgery.found in paths


@pytest.mark.parametrize("name", ADDED)
def test_a_file_that_is_added_is_found(name, place):
    put(name)(place / "run", {})
    found = verify(place / "run", key=key_of(place))
    assert [problem.path for problem in found.problems] == [name]
    assert ADDED[name] in found.problems[0].what


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
